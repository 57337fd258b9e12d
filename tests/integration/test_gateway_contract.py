"""The gateway held against its own documentation, by requests that schemathesis makes of it: good ones and bad ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import schemathesis
from ledger_databases import Databases
from openapi_spec_validator import validate
from running_gateway import RunningGateway, gateway_alone
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import CheckNode

from darkroom.ledger import Ledger, Scope
from darkroom.media.store import LocalFolder, MediaStore

EXAMPLES = 10  # for each operation, beside those that the bounds and examples of its documentation ask for
ADMIN = "^/v1/admin/"
GENERAL = "urn:darkroom:problem:bad-input"
# What a schema could say, and so must: types, bounds, and which fields there are.
FORM = re.compile(
    r"Input should|Field required|Extra inputs|should have at|should match|This is no cursor|Give either (rows|jobs)"
)


@schemathesis.check
def accepted_or_refused_for_its_meaning(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """What has the documented form is taken, or refused for what it means, not for its form.

    An id of no file, a manifest whose rows contradict each other, a key that came with another body: what depends on
    what is on record, or on several fields together, no schema can say. Nor what a kind of order or event has in it
    where any kind may come.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    if case.operation.path == "/v1/orders/{kind}" or problem.get("field", "").startswith(("data", "order.")):
        return
    assert problem["type"] != GENERAL or not FORM.search(problem["detail"]), f"refused for its form: {problem}"


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
    validate(gateway[0].http.get("/openapi.json").json())


@pytest.mark.parametrize(("part", "least"), [("admin", 200), ("rest", 1000)])
def test_it_answers_as_it_is_documented(gateway: tuple[RunningGateway, str], part: str, least: int) -> None:
    """No failure of its own, no status or type that is not documented, no good input refused, no bad input taken.

    What operators set apart from the rest, which it would change under its feet.
    """
    running, key = gateway
    config = {
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True},
        "headers": {"Authorization": f"Bearer {key}"},
        "continue-on-failure": True,
        "phases": {"stateful": {"enabled": False}},
        "checks": {"positive_data_acceptance": {"enabled": False}},
        "seed": 1,
    }
    running.http.get("/openapi.json")  # made once and kept: it is waited for ten seconds below
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json", config=schemathesis.Config.from_dict(config))
    schema = schema.exclude(path="/v1/stream")  # its good answer does not end
    schema = schema.include(path_regex=ADMIN) if part == "admin" else schema.exclude(path_regex=ADMIN)

    failures, errors, tried = [], [], 0
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            tried += len(event.recorder.cases)
            failures += [text for text in map(_told, chain.from_iterable(event.recorder.checks.values())) if text]
        elif isinstance(event, NonFatalError | FatalError):
            errors.append(str(event))

    assert not failures, "\n\n".join(failures)
    assert not errors
    assert tried > least


def _told(check: CheckNode) -> str | None:
    found = check.failure_info
    return found and f"{check.name}: {found.failure.operation}: {found.failure.message}\n{found.code_sample}"
