"""`GET /v1/budget`: what may be spent today and in this month, and what is left of it."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.ledger import Budget, Period

router = whole_router(tags=["Money"])


class BudgetDocument(Document):
    """Of one period, in USD at the providers. It begins and ends at midnight, UTC."""

    period: Period
    budget_usd: Usd | None = Field(description="Null: no limit.", examples=[20.0])
    source: str | None = Field(description="Whose it is: `plan`, or `user` for one of your own.", examples=["plan"])
    spent_usd: Usd = Field(description="By calls that have ended in it: their bills, else their costs.", examples=[3.2])
    reserved_usd: Usd = Field(description="For calls that are under way, by their estimates.", examples=[0.05])
    left_usd: Usd | None = Field(description="What may be spent yet; null without a limit.", examples=[16.75])
    resets_at: datetime

    @classmethod
    def of(cls, budget: Budget) -> Self:
        source = None if budget.budget_usd is None else "user" if budget.is_own else "plan"
        return cls(**vars(budget), left_usd=budget.left_usd, source=source)


class BudgetsDocument(Document):
    items: list[BudgetDocument] = Field(description="The day's and the month's.")


@router.get("/v1/budget", summary="See what may be spent yet", responses=problem_responses(401, 403))
def get_budget(user_id: UserId, services: ServicesOf) -> BudgetsDocument:
    """Tell your own; with the key of a service that of the end user it acts for. Orders wait rather than exceed it."""
    return BudgetsDocument(items=[BudgetDocument.of(each) for each in services.ledger.budgets.of(user_id)])
