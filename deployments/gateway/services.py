"""What the endpoints work with: opened when the application starts, closed when it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from darkroom.deployments.gateway.hook_ingest import HookIngest
from darkroom.deployments.gateway.loops.admitter import Admitter
from darkroom.deployments.gateway.loops.block_cache import BlockCache, PrefectBlockCache
from darkroom.deployments.gateway.loops.callbacks import CallbackSender
from darkroom.deployments.gateway.loops.effects import EffectExecutor
from darkroom.deployments.gateway.loops.event_feed import EventPublisher
from darkroom.deployments.gateway.loops.job_events import JobEvents
from darkroom.deployments.gateway.loops.news_feed import NewsFeed
from darkroom.deployments.gateway.loops.submitter import Submitter
from darkroom.deployments.gateway.rates import Rates
from darkroom.deployments.gateway.schemas.news import as_line
from darkroom.deployments.gateway.sign_on import SignOn
from darkroom.deployments.gateway.thumbnails import Thumbnails
from darkroom.deployments.gateway.webhook_ingest import WebhookIngest
from darkroom.events import EventIngest
from darkroom.ledger import GRANT, Implied, Ledger
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.shelf import keep_packaged, open_shelf
from darkroom.providers.web import Reach
from darkroom.providers.web.posting import WebPost
from darkroom.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    ledger: Ledger
    admitter: Admitter
    executor: EffectExecutor
    blocks: BlockCache
    ingest: EventIngest
    publisher: EventPublisher
    webhooks: WebhookIngest
    hooks: HookIngest
    news: NewsFeed
    thumbnails: Thumbnails
    callbacks: CallbackSender
    sign_on: SignOn | None
    rates: Rates = field(default_factory=Rates)

    async def act_on(self, implied: Implied, *, slot_freed: bool = False) -> None:
        """Carry out, after the answer, what a committed change implies."""
        # `async`, as it returns at once: a plain function would be taken to another thread.
        # A webhook that came twice has freed no slot.
        if slot_freed and GRANT in implied:
            self.admitter.slot_freed()
        self.executor.run(implied)


@contextmanager
def open_services(settings: Settings, *, blocks: BlockCache | None = None) -> Iterator[Services]:
    with ExitStack() as opened:
        ledger = Ledger(settings.ledger_url, timing=settings.timing)
        opened.callback(ledger.close)  # closed last: all that is opened from here on asks it to the end
        opened.enter_context(open_shelf(_ledger_of_cards(settings, opened), models=settings.models))
        _keep_packaged(ledger)
        api = PrefectApi.from_environment()
        orchestrator = opened.enter_context(Orchestrator(api))
        dispatcher = Dispatcher(ledger, orchestrator)
        blocks = blocks or opened.enter_context(PrefectBlockCache(settings, api))
        # Before those who give it effects, so that it ends after them. By name, as it and the admitter need each other.
        executor = opened.enter_context(EffectExecutor(dispatcher, on_grant=lambda: admitter.wake()))
        submitter = opened.enter_context(Submitter(ledger, settings, blocks, executor.run))
        admitter = opened.enter_context(Admitter(ledger, dispatcher, executor, on_grant=submitter.take))
        ingest = EventIngest(ledger)

        def act_on(implied: Implied) -> None:
            executor.run(implied)
            admitter.poll_pending_runs()  # which looks for slots, too

        job_events = opened.enter_context(JobEvents(ledger, ingest, act_on))
        post = WebPost(Reach.parse(settings.web_allow))
        callbacks = opened.enter_context(CallbackSender(ledger, settings, post))
        news = NewsFeed(ledger, lambda each: as_line(each, settings), ended=job_events.wake, told=callbacks.wake)
        yield Services(
            settings=settings,
            ledger=ledger,
            admitter=admitter,
            executor=executor,
            blocks=blocks,
            ingest=ingest,
            publisher=opened.enter_context(EventPublisher(ledger, orchestrator)),
            webhooks=WebhookIngest(ledger, blocks, settings),
            hooks=HookIngest(ledger, blocks, ingest),
            news=opened.enter_context(news),
            thumbnails=Thumbnails(),
            callbacks=callbacks,
            sign_on=SignOn(settings) if settings.oidc_issuer else None,
        )


def _ledger_of_cards(settings: Settings, opened: ExitStack) -> Ledger:
    """Open the ledger once more, for cards."""
    # They are looked up inside transactions, which may hold all connections of the first one.
    ledger = Ledger(settings.ledger_url, timing=settings.timing)
    opened.callback(ledger.close)
    return ledger


def _keep_packaged(ledger: Ledger) -> None:
    try:
        keep_packaged(ledger)
    except SQLAlchemyError as error:
        # A gateway starts without its ledger: models are looked up in the package itself then.
        logger.warning("The packaged cards were not put on record (%s)", type(error).__name__)


async def services_of(request: Request) -> Services:
    # `async`: a plain function would be a round trip to another thread, for every request.
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]
