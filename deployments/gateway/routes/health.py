"""`/healthz`: the process lives. `/readyz`: what it needs is there."""

from __future__ import annotations

from datetime import datetime

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.ledger import Ledger

router = whole_router(tags=["Operations"])


class Health(BaseModel):
    status: str = Field("ok", examples=["ok"])


class Check(BaseModel):
    ok: bool
    problem: str | None = Field(None, examples=["Prefect's API does not answer (ConnectError)"])


class ModelCards(BaseModel):
    """How many models are known, and how lately the platform was asked."""

    cards: int
    packaged: int = Field(description="Of these, the ones that came with Darkroom and were never asked for since.")
    fetched_at: datetime | None = Field(description="When a card was last seen as it is.")
    age_hours: float | None


class Readiness(BaseModel):
    ready: bool
    checks: dict[str, Check] = Field(description="`ledger`, `prefect`, `fal_account`, `media_store`.")
    models: ModelCards | None = Field(None, description="The cards of models; their age makes nothing unready.")
    differences: list[str] = Field(description="Where the environment says otherwise than the blocks, which rule.")


@router.get("/healthz", summary="Does the process live")
def healthz() -> Health:
    # Asks for nothing that it needs: whoever starts a gateway anew for that mends no ledger.
    return Health()


@router.get("/readyz", summary="Is everything there", responses={503: {"model": Readiness}})
def readyz(services: ServicesOf, response: Response) -> Readiness:
    """Orders are taken as soon as the ledger is there; they are carried out when the rest is."""
    readiness = services.blocks.readiness()
    problems = {"ledger": _ledger_problem(services.ledger), **readiness.problems}
    checks = {name: Check(ok=problem is None, problem=problem) for name, problem in problems.items()}
    ready = all(check.ok for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(
        ready=ready, checks=checks, models=_model_cards(services.ledger), differences=list(readiness.differences)
    )


def _model_cards(ledger: Ledger) -> ModelCards | None:
    try:
        age = ledger.models.age()
    except SQLAlchemyError:  # the check of the ledger says so
        return None
    hours = None if age.newest is None else round((ledger.clock() - age.newest).total_seconds() / 3600, 1)
    return ModelCards(cards=age.cards, packaged=age.packaged, fetched_at=age.newest, age_hours=hours)


def _ledger_problem(ledger: Ledger) -> str | None:
    try:
        ledger.users.account()  # reads a table: what is up and was never migrated is not ready
        # Asked for, as a full disk goes on answering what is read.
        return None if ledger.has_room() else "has no room on its disk: no order can be taken"
    except SQLAlchemyError as error:
        return f"does not answer as it should ({type(error).__name__}): is it up, and provisioned?"
