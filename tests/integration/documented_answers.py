"""A gateway asked by schemathesis whatever its documentation allows and forbids, and what of its answers was wrong.

Imported by the test that asks: it takes a second, and every process of tests imports the test's module.
"""

from __future__ import annotations

import re
from itertools import chain

import schemathesis
from running_gateway import RunningGateway
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import CheckNode

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


def asked(gateway: RunningGateway, key: str, *, part: str) -> tuple[list[str], list[str], int]:
    """Return the answers that were wrong, what could not be asked, and how many requests there were."""
    config = {
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True},
        "headers": {"Authorization": f"Bearer {key}"},
        "continue-on-failure": True,
        "phases": {"stateful": {"enabled": False}},
        "checks": {"positive_data_acceptance": {"enabled": False}},
        "seed": 1,
    }
    gateway.http.get("/openapi.json")  # made once and kept: it is waited for ten seconds below
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json", config=schemathesis.Config.from_dict(config))
    schema = schema.exclude(path="/v1/stream")  # its good answer does not end
    schema = schema.include(path_regex=ADMIN) if part == "admin" else schema.exclude(path_regex=ADMIN)

    failures, errors, tried = [], [], 0
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            tried += len(event.recorder.cases)
            failures += [text for text in map(_told, chain.from_iterable(event.recorder.checks.values())) if text]
        elif isinstance(event, NonFatalError | FatalError):
            errors.append(str(event))
    return failures, errors, tried


def _told(check: CheckNode) -> str | None:
    found = check.failure_info
    return found and f"{check.name}: {found.failure.operation}: {found.failure.message}\n{found.code_sample}"
