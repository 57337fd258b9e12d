"""What the parts of a stack find in their environment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import certifi
import httpx
import pytest
from prefect.settings.models.root import Settings as PrefectSettings
from pydantic import BaseModel

from darkroom.deployments.api_client import ApiClient
from darkroom.deployments.home import EXPORTED_FROM, Home, read_environment, write_environment
from darkroom.deployments.inherited import let_through
from darkroom.deployments.stack.environment import (
    callers_own,
    client_settings,
    inherited,
    server_environment,
    worker_settings,
)
from darkroom.deployments.stack.options import Provider, StackOptions
from darkroom.deployments.stack.parts import all_parts
from darkroom.deployments.stack.postgres import LONGEST_SOCKET_FOLDER, Cluster, cluster_in
from darkroom.deployments.stack.supervisor import Stack, last_words
from darkroom.deployments.stack.template import note_migrated
from darkroom.errors import NeedsHuman
from darkroom.settings import load_settings

# Prefect reads it in the server's encryption module, outside its settings.
OUTSIDE_SETTINGS = {"PREFECT_SERVER_ENCRYPTION_KEY"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def cluster(home: Home) -> Cluster:
    return Cluster(data=home.postgres, sockets=home.postgres, identity={})


def client(home: Home, cluster: Cluster, base: Mapping[str, str], **options: object) -> dict[str, str]:
    return client_settings(StackOptions(home=home.path, **options), home=home, cluster=cluster, base=base)  # type: ignore[arg-type]


def known_names(model: type[BaseModel]) -> set[str]:
    """Every environment variable that Prefect's settings understand."""
    names: set[str] = set()
    for field, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names |= known_names(info.annotation)
        else:
            names.add(f"{model.model_config.get('env_prefix', '')}{field}".upper())
            names |= {str(choice).upper() for choice in getattr(info.validation_alias, "choices", [])}
    return names


def test_prefect_knows_every_setting_it_is_given(home: Home, cluster: Cluster) -> None:
    """A misspelt name would be ignored silently."""
    options = StackOptions(home=home.path)
    given = {
        **server_environment(options, home=home, cluster=cluster),
        **client(home, cluster, {}),
        **worker_settings(options, home=home),
    }
    prefects = {name for name in given if name.startswith("PREFECT_")}
    assert prefects - OUTSIDE_SETTINGS - known_names(PrefectSettings) == set()


def test_a_database_that_this_version_has_migrated_is_not_migrated_again(home: Home, cluster: Cluster) -> None:
    """Nor one that is made for this start. One of another version is, and its blocks are registered."""
    done = {
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    }
    options = StackOptions(home=home.path)
    assert server_environment(options, home=home, cluster=cluster).items() >= done.items()
    cluster.data.mkdir(parents=True)
    (cluster.data / "PG_VERSION").touch()
    assert not done.keys() & server_environment(options, home=home, cluster=cluster).keys()
    note_migrated(cluster.data)
    assert server_environment(options, home=home, cluster=cluster).items() >= done.items()


def test_prefect_accepts_every_value_it_is_given(home: Home, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own settings are made of it, as the server's are when it starts."""
    options = StackOptions(home=home.path, prefect_port=4300)
    server = server_environment(options, home=home, cluster=cluster)
    for name, value in {**server, **worker_settings(options, home=home)}.items():
        monkeypatch.setenv(name, value)
    settings = PrefectSettings()
    assert settings.server.database.connection_url is not None
    assert settings.server.services.db_vacuum.enabled == {"events", "flow_runs"}
    assert settings.server.services.task_run_recorder.flush_interval >= 1
    assert settings.server.api.cors_allowed_origins == "http://127.0.0.1:4300,http://localhost:4300"
    assert settings.worker.query_seconds == 5
    assert settings.server.services.cleanup_reconciler.loop_seconds == 60


@pytest.mark.parametrize(
    ("base", "provider", "public_url"),
    [
        ({}, Provider.SIMULATED, "http://127.0.0.1:8700"),
        ({"DARKROOM_PUBLIC_URL": "https://me.example"}, Provider.SIMULATED, "https://me.example"),
        ({"DARKROOM_PUBLIC_URL": ""}, Provider.SIMULATED, ""),
        ({}, Provider.LIVE, ""),
        ({"DARKROOM_PUBLIC_URL": "https://me.example"}, Provider.LIVE, "https://me.example"),
    ],
)
def test_the_public_url_is_the_callers_choice(
    home: Home, cluster: Cluster, base: dict[str, str], provider: Provider, public_url: str
) -> None:
    """Only the simulator reaches a loopback address; set but empty means that nothing reaches us."""
    assert client(home, cluster, base, provider=provider)["DARKROOM_PUBLIC_URL"] == public_url


@pytest.mark.parametrize("public_url", ["http://127.0.0.1:8700", "https://me.example/", ""])
def test_the_simulated_mux_is_told_where_its_webhooks_go(home: Home, cluster: Cluster, public_url: str) -> None:
    """Once and for all, as in its dashboard; nowhere, where nothing reaches us."""
    options, base = StackOptions(home=home.path), {"DARKROOM_PUBLIC_URL": public_url}
    home.record_environment(client_settings(options, home=home, cluster=cluster, base=base))
    (simulator,) = (
        part for part in all_parts(options, home=home, cluster=cluster, base=base) if part.name == "simulator"
    )
    told = f"--mux-webhook-url {public_url.rstrip('/')}/webhooks/mux"
    assert (told in " ".join(simulator.command)) is bool(public_url)


def test_a_simulated_stack_has_an_account_at_every_provider(home: Home, cluster: Cluster) -> None:
    """And the secret that Mux' webhooks are signed with, which is this home's own and lasts."""
    settings = client(home, cluster, {})
    keys = {
        name: settings[name] for name in ("GEMINI_API_KEY", "ELEVENLABS_API_KEY", "MUX_TOKEN_ID", "MUX_TOKEN_SECRET")
    }
    assert all(value.startswith("sim") for value in keys.values())
    assert len(settings["MUX_WEBHOOK_SECRET"]) == 48
    assert client(home, cluster, {})["MUX_WEBHOOK_SECRET"] == settings["MUX_WEBHOOK_SECRET"]
    assert not keys.keys() & client(home, cluster, {"GEMINI_API_KEY": "real"}, provider=Provider.LIVE).keys()


def test_a_live_stack_reaches_the_provider_as_the_caller_does(home: Home, cluster: Cluster) -> None:
    """Proxy, certificates and key are inherited, and not written down."""
    base = {"FAL_KEY": "id:secret", "HTTPS_PROXY": "http://proxy.example", "SSL_CERT_FILE": certifi.where()}
    settings = client(home, cluster, base, provider=Provider.LIVE)
    assert not base.keys() & settings.keys()
    assert inherited(base).items() >= base.items()


@pytest.mark.parametrize(
    ("store", "recorded"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("block:s3-bucket/mine", "block:s3-bucket/mine"),
        ("pictures", str(Path("pictures").resolve())),
    ],
)
def test_a_folder_means_the_same_from_everywhere(home: Home, cluster: Cluster, store: str, recorded: str) -> None:
    """Parts run elsewhere than the caller stands."""
    assert client(home, cluster, {"DARKROOM_STORE": store})["DARKROOM_STORE"] == recorded


HOSTILE = {
    "PREFECT_PROFILE": "cloud",
    "PREFECT_API_URL": "https://api.prefect.cloud/api/accounts/1",
    "PREFECT_API_KEY": "pnu_secret",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_API_BASE_PATH": "/prefect",
    "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "s3-bucket/theirs",
    "PGPORT": "6543",
    "PGSERVICE": "theirs",
    "POSTGRES_PASSWORD": "theirs",
    "PYTHONHOME": "/opt/theirs",
    "PYTHONOPTIMIZE": "2",
    "UVICORN_PORT": "1",
    "GITHUB_TOKEN": "theirs",
}
WANTED = {
    "HOME": "/home/ann",
    "LC_ALL": "C.UTF-8",
    "TZ": "Asia/Kathmandu",
    "AWS_PROFILE": "media",
    "DARKROOM_PATIENCE": "5",
    "FAL_KEY": "id:secret",
    "OPENAI_API_KEY": "secret",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PYTHONPATH": "/srv/shop",
}


def test_of_the_callers_environment_only_what_is_listed_comes_through() -> None:
    """The settings of another Prefect or Postgres, and what bends Python, are the caller's own."""
    assert let_through({**HOSTILE, **WANTED}) == WANTED


def test_a_project_names_what_it_needs_besides() -> None:
    """As patterns, in a variable."""
    given = {"SHOP_URL": "https://shop.example", "MY_A": "1", "MY_B": "2", "OTHER": "3"}
    named = {"DARKROOM_PASS_ENV": "SHOP_URL, MY_*"}
    assert let_through({**given, **named}).keys() == {"SHOP_URL", "MY_A", "MY_B", "DARKROOM_PASS_ENV"}


@pytest.mark.parametrize(
    ("given", "direct"),
    [
        ({}, None),
        ({"NO_PROXY": "intranet [::1]:80"}, "127.0.0.1,localhost,::1,intranet"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"all_proxy": "socks5://proxy:1080", "no_proxy": "intranet, localhost"}, "127.0.0.1,localhost,::1,intranet"),
        # What HTTP clients cannot read they raise for, whatever they are for.
        (
            {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "a;b c [::1]:80 [fe80::2] fe80::/10 10.0.0.0/8 <local> .x *.y"},
            "127.0.0.1,localhost,::1,a,b,c,fe80::2,10.0.0.0/8,<local>,.x,*.y",
        ),
    ],
)
def test_loopback_is_never_reached_through_a_proxy(
    given: dict[str, str], direct: str | None, home: Home, cluster: Cluster
) -> None:
    """Prefect's client, and whatever else a part is made of, reads NO_PROXY in one of two spellings."""
    kept = let_through(given)
    assert kept.items() >= {name: value for name, value in given.items() if "no_proxy" not in name.lower()}.items()
    if direct:
        assert kept["NO_PROXY"] == kept["no_proxy"] == direct
    with patch.dict(os.environ, kept | client(home, cluster, given), clear=True):
        httpx.Client().close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_socks_proxy_is_written_as_clients_know_it(name: str) -> None:
    """httpx raises for GNOME's way, whatever a client is for. It takes what it is given here."""
    assert let_through({name: "socks://127.0.0.1:1080/"})[name] == "socks5://127.0.0.1:1080/"
    assert let_through({name: "socks5h://127.0.0.1:1080"})[name] == "socks5h://127.0.0.1:1080"
    for written in ("proxy.example:3128", " 'proxy.example:3128'\n"):
        assert let_through({name: written})[name] == "proxy.example:3128"
    httpx.Client(proxy="socks5h://127.0.0.1:1080").close()
    with pytest.raises(NeedsHuman, match=f"{name} is a proxy of a kind"):
        let_through({name: "socks4://127.0.0.1:1080"})
    for broken in ("http://", "http://u:s3cret@proxy:port", "http://[::1", "proxy:99999", "u:s3cret http://proxy"):
        with pytest.raises(NeedsHuman, match=f"{name} .*looks like http://host:port") as refused:
            let_through({name: broken})
        assert "s3cret" not in refused.value.message


def test_a_path_of_the_callers_means_the_same_to_the_parts(home: Home, cluster: Cluster) -> None:
    """They start in a folder in which nobody has left settings for Prefect."""
    kept = let_through({"PYTHONPATH": f"src{os.pathsep}/lib", "SSL_CERT_DIR": "certs"})
    assert kept == {
        "PYTHONPATH": f"{Path('src').absolute()}{os.pathsep}/lib",
        "SSL_CERT_DIR": str(Path("certs").absolute()),
    }
    parts = all_parts(StackOptions(home=home.path), home=home, cluster=cluster, base={})
    assert {part.folder for part in parts if part.name != "postgres"} == {Path("/")}


def test_the_worker_takes_no_run_before_all_is_provisioned(home: Home, cluster: Cluster) -> None:
    """In a home of an earlier version, deployments lead to that version's flows until then."""
    parts = {part.name: part for part in all_parts(StackOptions(home=home.path), home=home, cluster=cluster, base={})}
    awaited = Path(parts["worker"].command[-1])
    assert parts["worker"].command[-2] == "--after" and not awaited.exists()
    parts["provision"].when_ready()
    assert awaited.exists()


def test_certificates_that_are_not_there_are_named() -> None:
    """And the remedy: else every part ends with a traceback of its own."""
    with pytest.raises(NeedsHuman, match="SSL_CERT_FILE names /nowhere"):
        let_through({"SSL_CERT_FILE": "/nowhere/ca.pem"})


def test_a_folder_that_is_too_deep_for_a_socket_is_named() -> None:
    """Else the worker says that an address is too long, and not which."""
    with pytest.raises(NeedsHuman, match="TMPDIR is too long"):
        let_through({"TMPDIR": f"/{'d' * 80}"})


def test_what_an_earlier_stack_exported_is_not_the_callers_own(home: Home) -> None:
    """What the caller set besides is."""
    home.record_environment({"DARKROOM_PUBLIC_URL": "http://127.0.0.1:8700", "DARKROOM_PATIENCE": "5"})
    shell = {
        "DARKROOM_PUBLIC_URL": "http://127.0.0.1:8700",
        "DARKROOM_PATIENCE": "1",
        "TERM": "x",
        EXPORTED_FROM: str(home.path),
    }
    assert callers_own(shell).keys() == {"DARKROOM_PATIENCE", "TERM", EXPORTED_FROM}
    assert callers_own({"DARKROOM_PATIENCE": "5"}) == {"DARKROOM_PATIENCE": "5"}


@pytest.mark.parametrize(
    "value", ["plain", "", "with space", "it's", 'say "hi"', "$HOME `x` \\n", "${HOME}", "a=b#c", "two\nlines", "ü;~"]
)
def test_a_value_survives_the_file_the_settings_and_the_shell(
    home: Home, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in it."""
    home.record_environment({"DARKROOM_SIGNING_KEY": value})
    assert home.environment() == {"DARKROOM_SIGNING_KEY": value}
    monkeypatch.setenv("DARKROOM_HOME", str(home.path))
    monkeypatch.delenv("DARKROOM_SIGNING_KEY", raising=False)
    assert load_settings().signing_key.get_secret_value() == value
    script = f'{home.exports()}printf %s "$DARKROOM_SIGNING_KEY"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DARKROOM_PATIENCE", "inf", "valid timedelta"),
        ("DARKROOM_PATIENCE", "-1", "greater than or equal to 0"),
        ("DARKROOM_TIME_SCALE", "nan", "less than or equal"),
        ("DARKROOM_PUBLIC_URL", "me.example", "begins with https://"),
        ("DARKROOM_PAYMENT_URL", "https:///pay", "and a host"),
        ("DARKROOM_BALANCE_LOW_USD", "20€", "valid decimal"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(
    name: str, value: str, says: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it has to be, and without its value."""
    monkeypatch.setenv("DARKROOM_HOME", str(home.path))
    monkeypatch.setenv(name, value)
    with pytest.raises(NeedsHuman, match=f"{name}: .*{says}") as refused:
        load_settings()
    assert value not in refused.value.message


def test_settings_are_made_once_and_anew_when_anything_changes_that_they_are_read_from(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable by its name in any case, as pydantic reads it, or the file of the stack."""
    monkeypatch.setenv("DARKROOM_HOME", str(home.path))
    for name, field in (
        ("DARKROOM_MODELS", "models"),
        ("darkroom_web_allow", "web_allow"),
        ("MUX_TOKEN_ID", "mux_token_id"),
    ):
        for value in ("one", "two"):
            monkeypatch.setenv(name, value)
            assert getattr(load_settings(), field) == value
            assert load_settings() is load_settings()
        monkeypatch.delenv(name)
        assert getattr(load_settings(), field) != "two"
    for value in ("long", "longer"):
        home.record_environment({"DARKROOM_MODELS": value})
        assert load_settings().models == value


def test_what_a_part_said_last_is_told_whole() -> None:
    """Pydantic names the setting, and what it has to be, in lines that are indented."""
    log = "Traceback\n1 error for Settings\nlogging.level\n  Input should be\n    For further information visit x\n\n"
    assert last_words(log) == "logging.level Input should be"
    assert (last_words("a\nb\n"), last_words("\n")) == ("b", "")


def test_exports_are_lines_a_shell_and_a_reader_understand(home: Home) -> None:
    """`export NAME='value'`, and nothing where no stack was ever started."""
    assert home.exports() == ""
    home.record_environment({"PREFECT_API_URL": "http://127.0.0.1:4200/api"})
    first, *_ = home.exports().splitlines()
    assert first == "export PREFECT_API_URL='http://127.0.0.1:4200/api'"
    assert all(len(shlex.split(line)) == 2 for line in home.exports().splitlines())


def test_a_shell_is_given_only_what_darkroom_and_prefect_need(home: Home, cluster: Cluster) -> None:
    """The proxy and the certificates of a simulated provider would take the internet from everything else in it."""
    home.record_environment(client(home, cluster, {}))
    assert {"HTTPS_PROXY", "SSL_CERT_FILE", "FAL_KEY"} <= home.environment().keys()
    shell = {"PREFECT_PROFILE": "cloud", "PREFECT_LOGGING_LEVEL": "DEBUG", "HTTP_PROXY": "http://proxy", "TERM": "x"}
    unset, *exported = [line.split()[1].partition("=")[0] for line in home.exports(shell).splitlines()]
    assert unset == "PREFECT_PROFILE"
    assert {"PREFECT_API_URL", "DARKROOM_LEDGER_URL", "NO_PROXY"} <= set(exported)
    assert all(name.startswith(("PREFECT_", "DARKROOM_")) or name.lower() == "no_proxy" for name in exported)
    assert "no_proxy" not in home.exports({}).lower()


@pytest.mark.parametrize("own_ledger", [False, True])
def test_a_process_of_a_stack_finds_the_simulator_by_the_home(home: Home, cluster: Cluster, own_ledger: bool) -> None:
    """A flow or a command in any shell. One that works on another ledger is none of that stack's."""
    recorded = client(home, cluster, {})
    home.record_environment(recorded)
    elsewhere = {"DARKROOM_LEDGER_URL": "postgresql://elsewhere/darkroom"} if own_ledger else {}
    shell = {"DARKROOM_HOME": str(home.path), "HTTPS_PROXY": "http://proxy.example", "PGSERVICE": "theirs", **elsewhere}
    with patch.dict(os.environ, shell, clear=True):
        settings = load_settings()
        assert settings.fal_key and settings.fal_key.get_secret_value() == recorded["FAL_KEY"]
        for name in ("SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY"):
            assert (os.environ.get(name) == recorded[name]) is not own_ledger
        assert ("PGSERVICE" in os.environ) is own_ledger


def test_commands_call_with_the_key_of_their_environment_or_else_the_operators(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is set but empty is none."""
    monkeypatch.setenv("DARKROOM_HOME", str(home.path))
    home.operator_key.parent.mkdir(parents=True, exist_ok=True)
    home.operator_key.write_text("operators\n")
    for own, expected in (("own", "own"), ("", "operators")):
        monkeypatch.setenv("DARKROOM_API_KEY", own)
        with ApiClient(load_settings()) as client:
            assert client._http.headers["Authorization"] == f"Bearer {expected}"


def test_secrets_are_made_once_and_are_for_their_owner(home: Home) -> None:
    """The databases depend on them."""
    first = home.secrets()
    assert home.secrets() == first
    assert len(set(first.values())) == len(first) == 3
    assert (home.path / "secrets.env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", ["", "DARKROOM_SIGNING_KEY='x'\n", "garbage"])
def test_secrets_that_are_broken_are_named(home: Home, left: str) -> None:
    """A file cut short by a full disk, or edited by hand, with the remedy."""
    home.secrets_file.write_text(left)
    with pytest.raises(NeedsHuman, match=r"secrets.env lacks PREFECT_API_AUTH_STRING.*--new-secrets"):
        home.secrets()
    home.renew_secrets()
    assert all(home.secrets().values())


def test_a_database_that_has_outlived_its_secrets_is_not_given_new_ones_silently(home: Home) -> None:
    """What was encrypted with them would be lost at the first start, unnoticed. The file and the loss are named."""
    home.postgres.mkdir()
    (home.postgres / "PG_VERSION").touch()
    with pytest.raises(NeedsHuman, match=r"secrets.env is gone.*PREFECT_SERVER_ENCRYPTION_KEY.*--new-secrets"):
        Stack(StackOptions(home=home.path))._have_secrets()
    assert not home.secrets_file.exists()
    Stack(StackOptions(home=home.path, new_secrets=True))._have_secrets()
    first = home.secrets()
    home.renew_secrets()
    assert home.secrets().keys() == first.keys() and home.secrets() != first
    assert read_environment(home.secrets_file.with_suffix(".former")) == first


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """No draft is left, and a file that others could read cannot be read by them any more."""
    file = tmp_path / "stack.env"
    file.write_text("OLD='x'\n")
    file.chmod(0o644)
    write_environment(file, {"NEW": "y"})
    assert read_environment(file) == {"NEW": "y"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_two_stacks_in_one_home_are_refused(home: Home) -> None:
    """And the folder is free again when the first has ended."""
    with home.lock(), pytest.raises(NeedsHuman, match="--home"):
        home.lock()
    home.lock().close()


@pytest.mark.parametrize("folder", ["deep" * 40, "My Projects (100%)", "a,b", "it's", 'say "hi"', "a&b?c+d", "Büro"])
def test_a_socket_finds_a_place_wherever_the_home_is(tmp_path: Path, folder: str) -> None:
    """A socket's path is limited to some hundred bytes, and names of hosts are lists; the data stay where they are."""
    data = tmp_path / folder / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").touch()
    sockets = cluster_in(data).sockets
    assert re.fullmatch(r"[\w./-]+", str(sockets)) and len(str(sockets)) <= LONGEST_SOCKET_FOLDER
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert cluster_in(data).sockets == sockets
    sockets.rmdir()
