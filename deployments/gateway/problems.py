"""Errors as RFC 9457 problem documents, which name the field and the remedy.

Everything that goes wrong ends in one of the handlers here: `Problem` raised by an endpoint, the tree of
`darkroom.errors`, refused bodies, unknown paths, and whatever nobody expected, which shows nothing of our inside.
Values that came in are never repeated: they may be a prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg.errors import DiskFull
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from darkroom.batches import ManifestError
from darkroom.deployments.gateway.problem_hints import FieldError, field_errors, remedy_of, sentence
from darkroom.errors import BadInput, DarkroomError, NeedsHuman, Park, Permanent, Retry, StoreFull, TooMany, WrongState
from darkroom.models import WrongInput

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "wrong-state",
    413: "body-too-large",
    415: "wrong-content-type",
    416: "range-not-satisfiable",
    422: "bad-input",
    429: "too-many",
    500: "internal-error",
    503: "unavailable",
    507: "store-full",
}
# What the framework refuses by itself: detail and remedy.
_OWN_WORDS = {
    400: ("The body cannot be read.", "Send one JSON object; /docs shows its fields."),
    404: ("There is nothing at this address.", "Check it against /docs."),
    405: ("This address has no such method.", "Use one of those in the header Allow."),
}


class ProblemDocument(BaseModel):
    """What went wrong, and what to do about it (RFC 9457)."""

    type: str = Field(examples=["urn:darkroom:problem:bad-input"])
    title: str = Field(examples=["Bad input"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["prompt: String should have at least 1 character"])
    field: str | None = Field(
        None, description="What is wrong: a field of the body, a parameter or a header.", examples=["prompt"]
    )
    remedy: str | None = Field(None, description="What to do.", examples=["Give it at least 1 character(s)."])
    errors: list[FieldError] | None = Field(None, description="All of them, a hundred at most, where several are.")
    instance: str | None = Field(
        None, description="Where what was refused is kept.", examples=["/v1/events/evt_019aa1f0c5d2"]
    )


class Problem(HTTPException):
    """Raised by an endpoint; becomes the answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        remedy: str | None = None,
        field: str | None = None,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        instance: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers=dict(headers or {}))
        self.remedy = remedy
        self.field = field
        self.code = code or _CODES.get(status, "error")
        self.errors = list(errors)
        self.instance = instance

    def document(self) -> ProblemDocument:
        return ProblemDocument(
            type=f"urn:darkroom:problem:{self.code}",
            title=self.code.replace("-", " ").capitalize(),
            status=self.status_code,
            detail=self.detail,
            field=self.field,
            remedy=self.remedy,
            errors=self.errors if len(self.errors) > 1 else None,  # a single one is all said above
            instance=self.instance,
        )

    def response(self) -> JSONResponse:
        content = self.document().model_dump(exclude_none=True)
        return JSONResponse(content, self.status_code, headers=self.headers, media_type=MEDIA_TYPE)


def not_found(what: str) -> Problem:
    """Say so also of what belongs to somebody else: whether it exists is not told."""
    return Problem(
        404,
        f"You have no {what} of this id.",
        field="id",
        remedy=f"Check the id, and whose key it is: only its owner sees a {what}.",
    )


def unavailable(detail: str, *, retry_after: float | None = None) -> Problem:
    remedy = f"Send it again in {_whole(retry_after)} s."
    return Problem(503, detail, remedy=remedy, headers=_retry_after(retry_after))


def from_error(error: DarkroomError) -> Problem:
    # The narrower first: a ManifestError is BadInput, TooMany a Retry, StoreFull a Park.
    match error:
        case ManifestError():
            return _of_manifest(error)
        case WrongInput():
            return _of_input(error)
        case BadInput():
            return Problem(
                422,
                error.message,
                field=error.field or None,
                remedy=remedy_of(error.message, field=error.field),
                code=_code(error),
            )
        case WrongState():
            return Problem(409, error.message, remedy=remedy_of(error.message), code=_code(error))
        case TooMany():
            headers = _retry_after(_seconds(error))
            return Problem(429, error.message, remedy=remedy_of(error.message), code=_code(error), headers=headers)
        case StoreFull():
            return Problem(507, error.message, remedy=remedy_of(error.message), code=_code(error))
        # In the store's own words: who sends a file is told the remedy.
        case Park(code="store_refused") | Permanent(code="store_refused" | "store_misconfigured"):
            headers = _retry_after(None)
            return Problem(503, error.message, remedy=remedy_of(error.message), code=_code(error), headers=headers)
        case Retry() | Park():
            return unavailable(error.message, retry_after=_seconds(error))
        case NeedsHuman():  # its own words are the operator's, and may tell of our inside
            return unavailable("An operator has to look after this installation; its log and /readyz say why.")
        case _:
            return internal()


def _of_manifest(error: ManifestError) -> Problem:
    """Tell all that is wrong, by row and column."""
    found = [
        FieldError(
            field=", ".join([*([f"row {each.row}"] if each.row else []), *([each.column] if each.column else [])])
            or "manifest",
            detail=f"line {each.line}: {each.problem}" if each.line else each.problem,
            remedy=each.remedy,
            line=each.line,
        )
        for each in error.problems
    ]
    remedy = found[0].remedy if found else None
    return Problem(422, error.message, field=error.field, remedy=remedy, code=_code(error), errors=found)


def _of_input(error: WrongInput) -> Problem:
    """Tell all that a model does not take of its input, by path."""
    found = [FieldError(field=each.field, detail=each.problem, remedy=sentence(each.remedy)) for each in error.problems]
    remedy = found[0].remedy if found else remedy_of(error.message, field=error.field)
    return Problem(422, error.message, field=error.field or None, remedy=remedy, code=_code(error), errors=found)


def _code(error: DarkroomError) -> str:
    return error.code.replace("_", "-")


def _seconds(error: DarkroomError) -> float | None:
    return error.retry_after.total_seconds() if error.retry_after else None


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {"Retry-After": str(_whole(seconds))}


def _whole(seconds: float | None) -> int:
    # Not 0, which says to come at once.
    return max(1, round(seconds or RETRY_AFTER_SECONDS))


def internal() -> Problem:
    return Problem(
        500, "Something went wrong here.", remedy="Send it again with the same Idempotency-Key, or tell the operator."
    )


def from_validation(errors: Sequence[Any]) -> Problem:
    found = field_errors(errors)
    first = found[0]
    return Problem(422, f"{first.field}: {first.detail}", field=first.field, remedy=first.remedy, errors=found)


def from_http(error: HTTPException, *, allow: Sequence[str] = ()) -> Problem:
    if isinstance(error, Problem):
        return error
    detail, remedy = _OWN_WORDS.get(error.status_code, (str(error.detail), None))
    headers = dict(error.headers or {}) | ({"Allow": ", ".join(allow)} if allow else {})
    return Problem(error.status_code, detail, remedy=remedy, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Return the methods that the address has."""
    # The framework names those of one of its routes alone.
    routes: Sequence[BaseRoute] = request.app.router.routes
    here = {name: request.scope[name] for name in ("type", "path", "root_path")}
    return [
        method
        for method in METHODS
        if any(route.matches({**here, "method": method})[0] is Match.FULL for route in routes)
    ]


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        allow = _allowed(request) if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else ()
        return from_http(error, allow=allow).response()

    @app.exception_handler(RequestValidationError)
    def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return from_validation(error.errors()).response()

    @app.exception_handler(DarkroomError)
    def _darkroom(request: Request, error: DarkroomError) -> JSONResponse:
        problem = from_error(error)
        if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.warning("%s %s: %s (%s)", request.method, request.url.path, error.message, error.code)
        return problem.response()

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)  # no connection came free
    def _ledger_down(_: Request, error: Exception) -> JSONResponse:
        # Then Postgres refuses what is to be written, and goes on answering what is read.
        full = isinstance(getattr(error, "orig", None), DiskFull)
        said = "The ledger has no room on its disk." if full else "The ledger does not answer."
        logger.warning("%s (%s)", said, type(error).__name__)
        return unavailable(said).response()

    @app.exception_handler(DataError)
    def _unstorable(_: Request, error: DataError) -> JSONResponse:
        # NUL and lone surrogates are JSON, but no text to Postgres.
        remedy = "Remove NUL characters and unpaired surrogates."
        return Problem(422, "It contains characters that cannot be stored.", remedy=remedy).response()

    @app.exception_handler(RecursionError)
    def _too_deep(_: Request, error: RecursionError) -> JSONResponse:
        # What comes as JSON is bounded before. What else may nest (a cell, a cursor) ends here.
        return Problem(422, "It is nested too deep.", remedy="Nest it less.", code="too-deep").response()

    @app.exception_handler(Exception)
    def _unexpected(_: Request, error: Exception) -> JSONResponse:
        # The server logs the traceback.
        return internal().response()
