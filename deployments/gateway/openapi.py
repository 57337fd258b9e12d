"""What the documentation says beyond the endpoints: the flow in words, the sections, the problem documents."""

from __future__ import annotations

from typing import Any

from deployments.gateway.problems import MEDIA_TYPE, ProblemDocument

TITLE = "Darkroom"
DESCRIPTION = """
A prompt goes in, a picture comes out, and nothing is paid for twice.

1. **Order**: `POST /v1/images` with a prompt. The answer, 202, comes at once: the order is on record.
2. **Follow**: `GET /v1/jobs/{id}`, the address in `Location`. `waiting_for` says in one sentence what it waits for.
3. **Fetch**: when `status` is `completed`, each of the job's `assets` has a `url` that needs no key and holds an hour.

Send an `Idempotency-Key` with each order: after a time-out you can then send it again, and it is one job all the same.

A service with a *service key* acts for its own end users with the header `Darkroom-User: <your id of the user>`. Each
has its own place in the line, its own jobs and its own files.

Errors are [problem documents](https://www.rfc-editor.org/rfc/rfc9457) that name the `field` and the `remedy`.
"""
TAGS = [
    {"name": "Images", "description": "Order pictures."},
    {"name": "Jobs", "description": "What became of an order."},
    {"name": "Assets", "description": "The files."},
    {"name": "Operations", "description": "For load balancers and operators."},
]
_DESCRIPTIONS = {
    401: "No key, or not a valid one.",
    403: "Not with this key or link.",
    404: "Not there, or somebody else's.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not JSON.",
    422: "Something in it is wrong: `field` says what, `remedy` what to do. Nothing was queued.",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """The schema that `problem_responses` refers to: FastAPI would offer a model as `application/json` only."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, part in schema.pop("$defs", {}).items():
        document["components"]["schemas"][name] = part
    document["components"]["schemas"]["Problem"] = schema
    return document
