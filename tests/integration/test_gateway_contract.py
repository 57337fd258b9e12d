"""The gateway held against its own documentation, by requests that schemathesis makes of it: good ones and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_databases import Databases
from running_gateway import RunningGateway, gateway_alone

from darkroom.ledger import Ledger, Scope
from darkroom.media.store import LocalFolder, MediaStore


@pytest.fixture
def gateway(databases: Databases, tmp_path: Path) -> Iterator[tuple[RunningGateway, str]]:
    with databases.fresh() as url:
        ledger = Ledger(url)
        key = ledger.users.add("ann", plan="studio", scopes=list(Scope)).key
        ledger.close()
        with gateway_alone(url, tmp_path, media=MediaStore(LocalFolder(str(tmp_path)))) as gateway:
            yield gateway, key


def test_the_documentation_is_valid_openapi(gateway: tuple[RunningGateway, str]) -> None:
    """Generators of clients refuse what is not."""
    from openapi_spec_validator import validate  # not above, where every process of tests would import it

    validate(gateway[0].http.get("/openapi.json").json())


@pytest.mark.parametrize(("part", "least"), [("admin", 200), ("rest", 1000)])
def test_it_answers_as_it_is_documented(gateway: tuple[RunningGateway, str], part: str, least: int) -> None:
    """No failure of its own, no status or type that is not documented, no good input refused, no bad input taken.

    What operators set apart from the rest, which it would change under its feet.
    """
    from documented_answers import asked  # not above, where every process of tests would import schemathesis

    running, key = gateway
    failures, errors, tried = asked(running, key, part=part)
    assert not failures, "\n\n".join(failures)
    assert not errors
    assert tried > least
