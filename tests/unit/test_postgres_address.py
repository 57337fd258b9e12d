"""The ledger's address as services hand it out, and as people paste it."""

from __future__ import annotations

import pytest
from psycopg import conninfo
from sqlalchemy.engine import make_url

from darkroom.errors import NeedsHuman
from darkroom.postgres_address import Address, postgres_url, read_address

HOST = {"user": "ann", "password": "s3cret", "host": "db.example", "dbname": "app"}
SUPABASE = {"user": "postgres.abc", "host": "aws-0-eu.pooler.supabase.com", "dbname": "postgres", "password": "s3cret"}
SOCKET = {"user": "postgres", "host": "/var/run/a b", "dbname": "darkroom", "port": "5432"}


def read(text: str) -> dict[str, str]:
    return dict(read_address(text).parameters)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("postgresql://ann:s3cret@db.example/app", HOST),
        ("postgres://ann:s3cret@db.example:5432/app", HOST | {"port": "5432"}),  # Heroku
        ("postgresql+asyncpg://ann:s3cret@db.example/app", HOST),
        ("postgresql+psycopg2://ann:s3cret@db.example/app", HOST),
        ("POSTGRESQL://ann:s3cret@db.example/app", HOST),
        ("jdbc:postgresql://db.example/app?user=ann&password=s3cret", HOST),
        ("host=db.example dbname=app user=ann password=s3cret", HOST),
        # As they are copied
        ("'postgresql://ann:s3cret@db.example/app'", HOST),
        ('"postgresql://ann:s3cret@db.example/app"\n', HOST),
        (" postgresql://ann:s3cret@db.example/app\r\n", HOST),
        ("psql 'postgresql://ann:s3cret@db.example/app?sslmode=require'", HOST | {"sslmode": "require"}),  # Neon
        ("DATABASE_URL=postgresql://ann:s3cret@db.example/app", HOST),
        ('export DATABASE_URL="postgresql://ann:s3cret@db.example/app";', HOST),
        ("database_url: postgresql://ann:s3cret@db.example/app", HOST),
        ('"DATABASE_URL": "postgresql://ann:s3cret@db.example/app",', HOST),
        ("<postgresql://ann:s3cret@db.example/app>", HOST),
        ("\ufeff“postgresql://ann:s3cret@db.example/app”\u200b", HOST),
        ("postgresql://ann:s3cret@db.example/app/", HOST),
        # Passwords that nobody has escaped
        ("postgresql://ann:s3@cret@db.example/app", HOST | {"password": "s3@cret"}),
        ("postgresql://ann:s3#cret@db.example/app", HOST | {"password": "s3#cret"}),
        ("postgresql://ann:s3/cret?@db.example/app", HOST | {"password": "s3/cret?"}),
        ("postgresql://ann:s3:cret@db.example/app", HOST | {"password": "s3:cret"}),
        ("postgresql://ann:s3%cret+@db.example/app", HOST | {"password": "s3%cret+"}),
        ("postgresql://ann:s3%40cret@db.example/app", HOST | {"password": "s3@cret"}),
        ("postgresql://ann:a@b#c/d@db.example/app?ssl=1", HOST | {"password": "a@b#c/d", "sslmode": "require"}),
        # Extras
        ("postgresql://ann:s3cret@db.example/app?schema=public", HOST),  # Prisma
        ("postgresql://ann:s3cret@db.example/app?schema=mine", HOST | {"options": "-c search_path=mine"}),
        ("postgresql://ann:s3cret@db.example/app?ssl=require", HOST | {"sslmode": "require"}),
        ("postgresql://ann:s3cret@db.example/app?ssl=true", HOST | {"sslmode": "require"}),
        ("postgresql://ann:s3cret@db.example/app?sslmode=no-verify", HOST | {"sslmode": "require"}),
        ("postgresql://ann:s3cret@db.example/app?sslmode=verify-full&channel_binding=require",
         HOST | {"sslmode": "verify-full", "channel_binding": "require"}),
        ("postgresql://ann:s3cret@db.example/app?options=-c%20statement_timeout%3D60000",
         HOST | {"options": "-c statement_timeout=60000"}),
        ("postgresql://ann:s3cret@db.example/app?options=-c+statement_timeout=60000",
         HOST | {"options": "-c statement_timeout=60000"}),
        ("postgresql://ann:s3cret@db.example/app?statement_timeout=60000",
         HOST | {"options": "-c statement_timeout=60000"}),
        ("postgresql://ann:s3cret@db.example/app?options=endpoint%3Dcool-1", HOST | {"options": "endpoint=cool-1"}),
        ("postgresql://ann:s3cret@db.example/app?application_name=a@b", HOST | {"application_name": "a@b"}),
        ("postgresql://ann:s3cret@db.example/app?sslmode=&sslcert=", HOST),
        ("jdbc:postgresql://db.example/app?user=ann&password=s3cret&ApplicationName=shop&socketTimeout=30",
         HOST | {"application_name": "shop"}),
        ("postgresql://ann:s3cret@db.example/app?client_encoding=latin1", HOST),
        # Hosts
        ("postgresql://ann:s3cret@[::1]:5433/app", HOST | {"host": "::1", "port": "5433"}),
        ("postgresql://ann:s3cret@a:5432,b:5433/app?target_session_attrs=read-write",
         HOST | {"host": "a,b", "port": "5432,5433", "target_session_attrs": "read-write"}),
        ("postgresql://postgres@/darkroom?host=/var/run/a%20b", SOCKET),
        ("postgresql://postgres@%2Fvar%2Frun%2Fa%20b/darkroom", SOCKET),
        ("postgresql://postgres@/darkroom?host=/var/run/a%20b/.s.PGSQL.5432", SOCKET),
        ("postgresql://postgres@/darkroom?host=/a+b", SOCKET | {"host": "/a+b"}),
    ],
)  # fmt: skip
def test_an_address_is_understood_however_it_is_written(text: str, understood: dict[str, str]) -> None:
    """And what is understood is in the words of Postgres' own client library, which takes it."""
    assert read(text) == understood
    assert conninfo.conninfo_to_dict(conninfo.make_conninfo(**understood))


@pytest.mark.parametrize(
    ("text", "pooled", "warned"),
    [
        ("postgresql://postgres.abc:s3cret@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1",
         True, ["connection_limit", "pooler"]),
        ("postgresql://postgres.abc:s3cret@aws-0-eu.pooler.supabase.com:5432/postgres", False, []),
        ("postgresql://postgres:s3cret@db.abc.supabase.co:6543/postgres", True, ["pooler"]),
        ("postgresql://ann:s3cret@ep-cool-pooler.eu.aws.neon.tech/app?sslmode=require", True, ["pooler"]),
        ("postgresql://ann:s3cret@ep-cool.eu.aws.neon.tech/app?sslmode=require", False, []),
        ("postgresql://ann:s3cret@dpg-a1/app?pool_timeout=0&supa=base-pooler.x", False, ["pool_timeout", "supa"]),
        ("postgresql+asyncpg://ann:s3cret@db/app?prepared_statement_cache_size=0", False, ["prepared_statement"]),
        ("postgresql://ann:s3cret@db/app?pgbouncer=false", False, []),
    ],
)  # fmt: skip
def test_what_is_another_drivers_is_passed_over_with_a_warning(text: str, pooled: bool, warned: list[str]) -> None:
    """What lies behind a pooler by transactions is told: notifications do not come through it."""
    address = read_address(text)
    assert address.pooled is pooled
    assert len(address.warnings) == len(warned)
    assert all(word in said for word, said in zip(warned, address.warnings, strict=True))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres", "still the placeholder"),
        ("postgresql://postgres:<password>@db.example/s3cret", "still the placeholder"),
        ("postgresql://ann:********@db.example/s3cret", "still the placeholder"),
        ("postgresql://ann:s3cret@[HOST]/app", "placeholder"),
        ("postgresql://ann:your-password-here@db.example/s3cret", "still the placeholder"),
        ("postgresql://ann:${{POSTGRES_PASSWORD}}@db.example/s3cret", "still the placeholder"),
        ("postgresql://ann:s3cret@db.example/<database>", "the database's name is still the placeholder"),
        ("PGPASSWORD=s3cret psql postgresql://ann@db.example/app", "looks like postgresql://"),
        ("ann:s3cret@db.example/app?next=https://db.example", "looks like postgresql://"),
        ("mysql://ann:s3cret@db.example/app", "begins with postgresql://"),
        ("sqlite:///s3cret.db", "begins with postgresql://"),
        ("prisma+postgres://accelerate.prisma-data.net/?api_key=s3cret", "the database's direct one"),
        ("https://abc.supabase.co?s3cret", "connection string"),
        ("s3cret", "looks like postgresql://"),
        ("host=db password='s3cret", "name=value form"),
        ("postgresql://ann:s3cret@db.example:port/app", "the port"),
        ("postgresql://ann:s3cret@db.example:99999/app", "the port"),
        ("postgresql://ann:s3cret@db.example:５４３２/app", "the port"),
        ("postgresql://ann:s3cret@db.example/app?connect_timeout=10s", "connect_timeout is no whole number"),
        ("postgresql://ann:s3cret@db.example/app?sslmode=s3cret", "sslmode is none of disable"),
        ("postgresql://ann:s3cret@db.example/app?retries=3", "retries is nothing"),
        ("postgresql://ann:s3cret@db.example/app?schema=a;s3cret", "schema cannot be read"),
        ("postgresql://ann:s3cret@db example/app", "told apart"),
    ],
)
def test_what_cannot_be_an_address_is_refused_in_one_sentence(text: str, says: str) -> None:
    """It names the variable and the remedy, and shows no password."""
    with pytest.raises(NeedsHuman) as refused:
        read_address(text)
    said = refused.value.message
    assert said.startswith("DARKROOM_LEDGER_URL: ") and says in said
    assert "s3cret" not in said and "\n" not in said
    assert refused.value.__suppress_context__


def test_an_address_that_is_shown_hides_its_password() -> None:
    """In a log, in a traceback, in a debugger."""
    assert "s3cret" not in repr(read_address("postgresql://ann:s3cret@db.example/app"))
    assert isinstance(read_address("postgresql:///app"), Address)


@pytest.mark.parametrize(
    "folder", ["/srv/My Projects (100%)", "/a+b", "/a&b=c", "/who?", "/it's", '/"x"', "/a,b", "/ü#%20"]
)
def test_an_address_is_written_so_that_all_who_read_it_read_the_same(folder: str) -> None:
    """We, libpq itself, and SQLAlchemy for Prefect's server."""
    url = postgres_url("prefect", user="postgres", socket_folder=folder)
    assert read(url) == {"user": "postgres", "dbname": "prefect", "host": folder, "port": "5432"}
    assert conninfo.conninfo_to_dict(url) == {"user": "postgres", "dbname": "prefect", "host": folder}
    assert make_url(url).query == {"host": folder}
