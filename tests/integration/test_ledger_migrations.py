"""The schema: migrations lead to the models, from nothing or again, alone or several at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from interleaving import all_at_once
from ledger_databases import Databases

from darkroom.ledger import Ledger, migrate, migrations
from darkroom.ledger.database import make_engine


@pytest.fixture
def empty_url(databases: Databases) -> Iterator[str]:
    with databases.fresh(template="template0") as url:
        yield url


def check(url: str) -> None:
    """Raises if the models say anything that the migrations do not."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = make_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)
    engine.dispose()


def test_models_and_migrations_agree(ledger_url: str) -> None:
    """Whoever changes a table writes its migration."""
    check(ledger_url)


def test_migrating_again_changes_nothing(ledger_url: str) -> None:
    """`darkroom provision` does it each time; what operators have set stays."""
    ledger = Ledger(ledger_url)
    ledger.users.set_account("fal", slots=77)
    migrate(ledger_url)
    assert ledger.users.account("fal").slots == 77
    ledger.close()


def test_four_provisioners_at_once_migrate_once(empty_url: str) -> None:
    """Without the advisory lock all but one would fail on tables that are there."""
    all_at_once([lambda: migrate(empty_url)] * 4)
    check(empty_url)


def test_a_fresh_ledger_has_what_everybody_needs(ledger: Ledger) -> None:
    """Three plans, the operator, the account."""
    assert {plan.name: plan.in_flight for plan in ledger.users.plans()} == {"free": 1, "pro": 3, "studio": 8}
    assert [user.id for user in ledger.users.all()] == ["operator"]
    assert ledger.users.account("fal").slots == 10


def test_a_ledger_without_an_address_says_what_to_do() -> None:
    """The setting's name and the command."""
    with pytest.raises(ValueError, match="DARKROOM_LEDGER_URL"):
        Ledger("")
