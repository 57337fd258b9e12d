"""What the documentation says beyond the endpoints: the flow in words, the sections, the problem documents."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from darkroom.deployments.gateway.problems import (
    MEDIA_TYPE,
    Problem,
    ProblemDocument,
    from_error,
    from_http,
    unavailable,
)
from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.errors import StoreFull, TooMany, WrongState
from darkroom.flows.orders import NAMED

TITLE = "Darkroom"
DESCRIPTION = """
A prompt goes in, a picture comes out, and nothing is paid for twice.

1. **Order**: `POST /v1/images` with a prompt. The answer, 202, comes at once: the order is on record.
2. **Follow**: `GET /v1/jobs/{id}`, the address in `Location`. `waiting_for` says in one sentence what it waits for.
   Or be told: `GET /v1/stream` says what happens as it happens, also to a browser (`POST /v1/stream-tokens`).
   Or have your application called: with `callback_url` in an order, or `PUT /v1/callback-endpoint` once for all.
3. **Fetch**: when `status` is `completed`, each of the job's `assets` has a `url` that needs no key and holds an hour.

`POST /v1/jobs/{id}/cancel` ends a job; `POST /v1/jobs/{id}/replay` gives a failed or cancelled one another try, and
pays only for what has not succeeded yet. `GET /v1/dead-letters` lists all that failed, with what another try costs;
`POST /v1/dead-letters/replay` puts many back at once, under a budget.

Give an order `tags` and `metadata` of your own: `GET /v1/jobs` finds jobs by tag, and by words of their prompt (`q`).

Send an `Idempotency-Key` with each order: after a time-out you can then send it again, and it is one job all the same.

A service with a *service key* acts for its own end users with the header `Darkroom-User: <your id of the user>`. Each
has its own place in the line, its own jobs and its own files.

A key is good for its scopes: `read` (look at what is yours), `orders` (order, upload, cancel, replay), `events` (send
events), `admin` (`/v1/admin`). Where your plan bounds how often a key may call, `RateLimit` on each answer says how
many calls are left.

Errors are [problem documents](https://www.rfc-editor.org/rfc/rfc9457) that name the `field` and the `remedy`.
"""
TAGS = [
    {"name": "Images", "description": "Order pictures."},
    {"name": "Batches", "description": "A campaign of up to 10,000 pictures, in two passes with a choice between."},
    {"name": "Models", "description": "Run any model, and see what each accepts and costs."},
    {"name": "LoRAs", "description": "Train a face, a thing or a style, and name it in orders for pictures."},
    {"name": "Films", "description": "Order a film with voice and captions, ready to be streamed."},
    {"name": "Orders", "description": "Order any pipeline by its kind: Darkroom's, your project's, or a package's."},
    {
        "name": "Events",
        "description": "Say what happened in your application: it starts jobs and wakes those that wait.",
    },
    {"name": "Jobs", "description": "What became of an order; its end, or another try."},
    {"name": "Stream", "description": "What happens, as it happens: to your backend, or to a browser."},
    {"name": "Callbacks", "description": "What happens, told to your application: signed, and tried again for a day."},
    {"name": "Sessions", "description": "A bearer for a page in a browser, in place of a key, for half a day."},
    {"name": "Money", "description": "What was spent."},
    {"name": "Assets", "description": "The files."},
    {"name": "Admin", "description": "Users, their keys and plans, accounts and models: with the scope `admin`."},
    {"name": "Operations", "description": "For load balancers and operators."},
]
_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_DESCRIPTIONS = {
    400: "The body cannot be read as what it is declared to be.",
    401: "No key, or not a valid one.",
    403: "Not with this key or link: a key needs the scope (`orders`, `events`, `read`, `admin`) that the call is in.",
    404: "Not there, or somebody else's.",
    409: "The job is not one that failed or was cancelled, or the provider is not done with it.",
    413: "The body is larger than 1 MiB; of an upload, larger than its type may be.",
    415: "The body is not JSON; of an upload, not declared as what can be uploaded.",
    416: "The part that was asked for is not in the file; `Content-Range` says how large it is.",
    422: "Something in it is wrong: `field` says what, `remedy` what to do. Nothing was queued.",
    429: "As much waits as the plan allows, or the key has called too often. Nothing was queued; `Retry-After` says "
    "when to try again.",
    503: "Something that it needs is out. Nothing was done; `Retry-After` says when to try again.",
    507: "There is no room for the file. Nothing was stored.",
}
_EXAMPLES = {
    400: from_http(HTTPException(400)),
    401: Problem(401, "There is no key.", field="Authorization", remedy="Send `Authorization: Bearer <key>`."),
    403: Problem(403, "This key is no service's.", field="Darkroom-User", remedy="Leave the header out."),
    404: Problem(404, "You have no job of this id.", field="id", remedy="Check the id, and whose key it is."),
    409: from_error(WrongState("The job is completed: there is nothing to replay. Order it anew to have it again.")),
    413: Problem(413, "The body is larger than 1 MiB.", field="body", remedy="Send at most 1 MiB."),
    415: Problem(415, "The body is not declared as JSON.", field="Content-Type", remedy="Send JSON."),
    416: Problem(416, "The file has 1024 bytes, and none of those that were asked for.", field="Range"),
    422: Problem(
        422,
        "image_size.width: Input should be greater than or equal to 64",
        field="image_size.width",
        remedy="Use 64 or more.",
    ),
    429: from_error(
        TooMany("20,000 of your requests wait already, the most on the plan 'pro'. Send it again when some are done.")
    ),
    503: unavailable("The ledger does not answer."),
    507: from_error(StoreFull("the media store is full: free space there, or give it more")),
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _response(status) for status in statuses}


def completed(document: dict[str, Any], *bodies: type[BaseModel]) -> dict[str, Any]:
    """Complete it with the schemas that are referred to by name, and plain types."""
    # FastAPI would offer problems as `application/json` only, and knows nothing of bodies that come in several forms.
    models: dict[str, type[BaseModel]] = {"Problem": ProblemDocument} | {body.__name__: body for body in bodies}
    for name, model in models.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs", {}) | {name: schema}
    for operation in _operations(document):
        operation["responses"] |= _implied(operation)
        for parameter in operation.get("parameters", []):
            parameter["schema"] = _without_null(parameter["schema"])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nobody is answered with
        document["components"]["schemas"].pop(name, None)
    return document


def add_pipelines(document: dict[str, Any]) -> None:
    """Describe the orders of all pipelines that have no address of their own: the project's, and packages'."""
    # Here, as it imports Prefect and the project's code: a gateway that is never asked for it does without.
    from darkroom.engine.registry import all_pipelines

    template = document["paths"]["/v1/orders/{kind}"]["post"]
    named = {each.over_http.kind for each in NAMED if each.over_http}
    for kind, pipeline in sorted(all_pipelines().items()):
        if kind in named:  # described by their routes
            continue
        name = f"{kind.title().replace('-', '')}Order"
        # Under the order's name, as parts of two projects' orders may be called the same.
        schema = labelled(pipeline.order).model_json_schema(ref_template=f"#/components/schemas/{name}_{{model}}")
        parts = {f"{name}_{part}": each for part, each in schema.pop("$defs", {}).items()}
        document["components"]["schemas"] |= parts | {name: schema}
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        document["paths"][f"/v1/orders/{kind}"] = {
            "post": {
                **template,
                "operationId": f"order_{kind.replace('-', '_')}",
                "summary": kind,
                "description": inspect.getdoc(pipeline.function) or "",
                "parameters": [each for each in template["parameters"] if each["name"] != "kind"],
                "requestBody": {"required": True, "content": content},
            }
        }


def _response(status: int) -> dict[str, Any]:
    example = _EXAMPLES[status].document().model_dump(exclude_none=True)
    return {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": _SCHEMA, "example": example}}}


def _implied(operation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the problems that any operation may answer with that takes a body, parameters or a key."""
    statuses = {422, 503} if "parameters" in operation or "requestBody" in operation else set()
    if "requestBody" in operation:  # by limits.py, before any endpoint
        statuses |= {400, 413, 415}
    if "security" in operation:  # 429 where a plan bounds calls, 503 as the key is looked up in the ledger
        statuses |= {401, 403, 429, 503}
    return {str(status): _response(status) for status in statuses if str(status) not in _own(operation)}


def _own(operation: Mapping[str, Any]) -> set[str]:
    """Return the statuses that the operation describes itself: not FastAPI's answer to refused input."""
    return {
        status
        for status, response in operation["responses"].items()
        if "HTTPValidationError" not in str(response.get("content"))
    }


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop null from a parameter's schema."""
    # One that may be left out is never null in a query or a header: it is just not there.
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return kinds[0] | {name: value for name, value in schema.items() if name != "anyOf"}
