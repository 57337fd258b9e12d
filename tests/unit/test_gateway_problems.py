"""Whatever goes wrong becomes a problem document that names the field and the remedy, and repeats no input."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from darkroom.deployments.gateway.limits import API_CAP, WEBHOOK_CAP, cap_for, refuse
from darkroom.deployments.gateway.problem_hints import remedy_of
from darkroom.deployments.gateway.problems import MEDIA_TYPE, from_error, from_http, from_validation
from darkroom.errors import BadInput, DarkroomError, NeedsHuman, Park, Permanent, RateLimited, TooMany, WrongState
from darkroom.flows.orders.picture import Picture

SECRET = "a prompt nobody else should read"


def refused(order: object) -> list[Any]:
    """pydantic's errors with the place in front that the framework puts there."""
    with pytest.raises(ValidationError) as refusal:
        Picture.model_validate(order)
    return [{**error, "loc": ("body", *error["loc"])} for error in refusal.value.errors()]


ORDERS = {
    "nothing": ({}, "prompt", "Add it."),
    "a list": ([], "body", "Send one JSON object."),
    "an empty prompt": ({"prompt": ""}, "prompt", "Give it at least 1 character(s)."),
    "a long prompt": ({"prompt": "x" * 4001}, "prompt", "Shorten it to 4000 characters."),
    "an unknown field": ({"prompt": "x", "promt": SECRET}, "promt", "Leave it out."),
    "too many": ({"prompt": "x", "num_images": 9}, "num_images", "Use 4 or less."),
    "an impossible size": (
        {"prompt": "x", "image_size": {"width": 1, "height": 64}},
        "image_size.width",
        "Use 64 or more.",
    ),
    "half a size": ({"prompt": "x", "image_size": {"width": 64}}, "image_size.height", "Add it."),
}


@pytest.mark.parametrize(("order", "field", "remedy"), ORDERS.values(), ids=ORDERS)
def test_refused_orders_name_field_and_remedy(order: object, field: str, remedy: str) -> None:
    """By the field's path in the body, also where pydantic tried several types; one error for each field."""
    document = from_validation(refused(order)).document()

    assert (document.status, document.field, document.remedy) == (422, field, remedy)
    assert document.errors is None
    assert SECRET not in document.model_dump_json()


def test_of_many_wrong_fields_the_first_are_named() -> None:
    """Not each held against each other: a body of a megabyte took minutes, and meanwhile held its thread and memory."""
    document = from_validation(refused({"prompt": "x", **{f"n{number}": 1 for number in range(20_000)}})).document()

    assert document.errors is not None
    assert [error.field for error in document.errors] == [f"n{number}" for number in range(100)]


def test_all_wrong_fields_are_named_at_once() -> None:
    """The first at the top, all of them in `errors`."""
    document = from_validation(refused({"prompt": "", "seed": -1, "image_size": SECRET})).document()

    assert document.errors is not None
    assert {error.field for error in document.errors} == {"prompt", "seed", "image_size"}
    assert SECRET not in document.model_dump_json()


MESSAGES = {
    "a semicolon": ("unknown model; choose one of a, b", "model", "Choose one of a, b."),
    "a stop": ("It came before. Use a new key.", "Idempotency-Key", "Use a new key."),
    "a colon": (
        "openai/x does not accept seed: leave it out; it accepts a, b",
        "seed",
        "Leave it out; it accepts a, b.",
    ),
    "the field in front": ("prompt: must not be blank: describe the picture", "prompt", "Describe the picture."),
    "the remedy alone": ("width: Input should be a multiple of 16", "width", "Input should be a multiple of 16."),
    "an example": ("size: must have pixels, e.g. 64 × 64", "size", "Must have pixels, e.g. 64 × 64."),
}


@pytest.mark.parametrize(("message", "field", "remedy"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_about_input_ends_with_its_remedy(message: str, field: str, remedy: str) -> None:
    """The convention in which `BadInput` is written, read back."""
    assert remedy_of(message, field=field) == remedy


ERRORS: dict[str, tuple[DarkroomError, int, str]] = {
    "bad input": (BadInput("unknown model; choose one", field="model"), 422, "bad-input"),
    "an idempotency conflict": (
        BadInput("Use another.", field="x", code="idempotency_conflict"),
        422,
        "idempotency-conflict",
    ),
    "a full queue": (TooMany("Full. Come again.", retry_after=timedelta(seconds=60)), 429, "queue-full"),
    "what does not go together": (WrongState("It is completed. Order it anew."), 409, "wrong-state"),
    "a rate limit": (RateLimited("slower", retry_after=timedelta(seconds=7)), 503, "unavailable"),
    "an outage": (Park("fal is out"), 503, "unavailable"),
    "something for a person": (NeedsHuman("there is no block fal-account/default"), 503, "unavailable"),
    "anything else": (Permanent("the bucket my-secret-bucket refuses"), 500, "internal-error"),
}


@pytest.mark.parametrize(("error", "status", "code"), ERRORS.values(), ids=ERRORS)
def test_every_branch_of_the_error_tree_has_its_status(error: DarkroomError, status: int, code: str) -> None:
    """Input is the caller's, outages pass, and what is ours is not shown."""
    problem = from_error(error)

    assert problem.document().type == f"urn:darkroom:problem:{code}"
    assert problem.status_code == status
    assert problem.response().media_type == MEDIA_TYPE
    assert "my-secret-bucket" not in problem.document().model_dump_json()


def test_a_caller_is_told_when_to_come_again() -> None:
    """As the provider said, where it said so."""
    for error in (RateLimited("slower", retry_after=timedelta(seconds=7)), TooMany(retry_after=timedelta(seconds=7))):
        told = from_error(error)
        assert told.headers is not None
        assert told.headers["Retry-After"] == "7"


@pytest.mark.parametrize("status", [400, 404, 405])
def test_what_the_framework_refuses_reads_like_the_rest(status: int) -> None:
    """With words of ours and a remedy, and with the framework's headers."""
    problem = from_http(HTTPException(status, headers={"Allow": "GET"}))

    assert problem.remedy
    assert problem.headers == {"Allow": "GET"}


HEADS: dict[str, tuple[str, str, dict[str, str], int | None]] = {
    "JSON": ("POST", "/v1/images", {"content-type": "application/json", "content-length": "10"}, None),
    "JSON with a charset": ("POST", "/v1/images", {"content-type": "Application/JSON; charset=utf-8"}, None),
    "a form": (
        "POST",
        "/v1/images",
        {"content-type": "application/x-www-form-urlencoded", "content-length": "8"},
        415,
    ),
    "no type": ("POST", "/v1/images", {"content-length": "8"}, 415),
    "a stream of no type": ("POST", "/v1/images", {"transfer-encoding": "chunked"}, 415),
    "no body": ("GET", "/v1/jobs", {}, None),
    "a cancel, which needs no body": ("POST", "/v1/jobs/job_1/cancel", {"content-length": "0"}, None),
    "as large as may be": (
        "POST",
        "/v1/images",
        {"content-type": "application/json", "content-length": str(API_CAP)},
        None,
    ),
    "one byte more": (
        "POST",
        "/v1/images",
        {"content-type": "application/json", "content-length": str(API_CAP + 1)},
        413,
    ),
    "a large webhook": ("POST", "/webhooks/fal", {"content-length": str(WEBHOOK_CAP)}, None),
    "an upload": ("POST", "/v1/uploads", {"content-type": "image/png", "content-length": str(20 * 1024**2)}, None),
    "too large a picture": (
        "POST",
        "/v1/uploads",
        {"content-type": "image/jpeg", "content-length": str(20 * 1024**2 + 1)},
        413,
    ),
    "an archive": (
        "POST",
        "/v1/uploads",
        {"content-type": "application/zip", "content-length": str(500 * 1024**2)},
        None,
    ),
    "a film": ("POST", "/v1/uploads", {"content-type": "video/mp4", "content-length": str(500 * 1024**2)}, None),
    "too large a film": (
        "POST",
        "/v1/uploads",
        {"content-type": "video/mp4", "content-length": str(500 * 1024**2 + 1)},
        413,
    ),
    "an upload of JSON": ("POST", "/v1/uploads", {"content-type": "application/json", "content-length": "2"}, 415),
    "an upload of no type": ("POST", "/v1/uploads", {"content-length": "8"}, 415),
    "a picture where JSON is due": ("POST", "/v1/images", {"content-type": "image/png", "content-length": "8"}, 415),
    "too large a webhook": ("POST", "/webhooks/fal", {"content-length": str(WEBHOOK_CAP + 1)}, 413),
}


@pytest.mark.parametrize(("method", "path", "headers", "status"), HEADS.values(), ids=HEADS)
def test_bodies_are_judged_by_their_head(method: str, path: str, headers: dict[str, str], status: int | None) -> None:
    """Size and type are refused before anything is read; webhooks may be larger and of any type."""
    problem = refuse(method, path, Headers(headers), cap=cap_for(path, Headers(headers)))

    assert (problem and problem.status_code) == status
    assert problem is None or (problem.field and problem.remedy)
