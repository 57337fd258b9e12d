"""The provider as a whole: accounts and their lines, rules, book, files and webhooks, put together.

The HTTP sides (`queue_api`, `storage_api`, `platform_api`, `operator_api`) translate between requests and this object.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from .answers import user_is_locked
from .bench import Bench
from .book import Account, Book, Entry, Outcome, State, new_request_id, text_of
from .catalogue import Catalogue
from .cdn import Cdn, Terms
from .charges import Charges
from .endpoints import Latencies
from .faults import Faults, RuleBook
from .inference import Inference
from .journal import (
    Journal,
    accepted,
    announced,
    changed,
    entries_in,
    finished,
    lines_of,
    started,
    storage_in,
    storage_set,
)
from .lifecycle import Lifecycle
from .line import Line
from .mux_assets import Announcer
from .others import Others
from .outage import Outage
from .outcomes import platform_failure
from .platform.access import RateLimit
from .shelf import Shelf
from .signing import SigningKeys, mux_webhook_secret
from .webhooks import WebhookSender

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    home: Path
    port: int = 9100
    latency: float = 2.0
    latency_of: Mapping[str, float] = field(default_factory=dict)  # by endpoint
    concurrency: int = 10  # fal's accounts begin with 2 and come to 40 by what they have paid
    seed: int = 0
    fixed_pictures: bool = False
    webhook_retry: float = 1.0  # seconds; fal does not publish its own
    mux_webhook_url: str | None = None
    crowd: int = 0  # so many models more in the catalogue


class Provider:
    def __init__(self, options: Options, *, outage: Outage) -> None:
        self.options = options
        self.outage = outage
        self.book = Book()
        self.rules = RuleBook(seed=options.seed)
        self._journal = Journal(options.home / "book-1.jsonl")
        self.cdn = Cdn(Shelf(options.home / "files"), note=self._journal.write)
        self.keys = SigningKeys(options.home)
        self.sender = WebhookSender(self.keys, first_retry_seconds=options.webhook_retry)
        self._bench = Bench(self.cdn, fixed_pictures=options.fixed_pictures)
        self.catalogue = Catalogue(crowd_size=options.crowd)
        endpoints = self.catalogue.endpoints
        latencies = Latencies(seconds=options.latency, by_endpoint=options.latency_of, endpoints=endpoints)
        self._inference = Inference(self._bench, latencies=latencies, endpoints=endpoints)
        self.charges = Charges()
        self.rate_limit = RateLimit()
        self._storage: dict[str, dict[str, Any]] = {}
        self.reset_platform()
        secret = mux_webhook_secret(options.home)
        announcer = Announcer(options.mux_webhook_url, secret=secret, first_retry_seconds=options.webhook_retry)
        self.others = Others(announcer, home=options.home, latency=options.latency, latency_of=options.latency_of)
        self._lines: dict[str, Line] = {}
        self._running = 0
        self._peak = 0
        self.client_requests = 0  # of any kind, at any host of any provider
        self._announcements: set[asyncio.Task[None]] = set()

    def go_on(self) -> None:
        """Take up what an earlier process has left: requests under way, webhooks that were not delivered, files."""
        known = list(self._journal.read())
        entries = entries_in(known)
        self.cdn.restore(known)
        self._storage = storage_in(known)
        settings = (storage_set(*each) for each in self._storage.items())
        # Before any of them goes on: what that adds to the file would be lost with the old one.
        requests = (line for entry in entries for line in lines_of(entry))
        self._journal.write_anew([*requests, *self.cdn.lines(), *settings])
        for entry in entries:
            self.book.add(entry)
        self.book.submit_calls = len(entries)
        # Oldest first: what was in progress has its slots again, and the rest their places.
        for entry in entries:
            self._charge(entry)  # charges are not on record: they follow from the outcomes
            if entry.outcome is None:
                self.line(entry.account).join(entry, on_timeout=platform_failure("request_timeout"))
            elif not entry.is_announced:
                self._announce(entry)
        self.others.go_on()

    def release(self, entry: Entry, changes: Mapping[str, Any]) -> None:
        """Have a held request end, in the way that the changes say."""
        entry.faults = entry.faults.model_copy(update=changes)
        entry.released.set()
        self.note(entry)

    def note(self, entry: Entry) -> None:
        """Have what was changed of the request last."""
        self._journal.write(changed(entry))

    async def close(self) -> None:
        tasks = [*self._announcements, *(task for line in self._lines.values() for task in line.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._bench.close()
        self.sender.close()
        await self.others.close()
        self._journal.close()

    def faults_for(self, endpoint: str, arguments: dict[str, Any]) -> Faults:
        """Count the submit, whether it will be accepted or not, and return its faults."""
        self.book.submit_calls += 1
        text = text_of(arguments)
        faults = self.rules.faults_for(endpoint=endpoint, text=text, submit_number=self.book.submit_calls)
        if faults.submit.refuses:
            self.book.refusals[faults.submit.value] += 1
        return faults

    def accept(
        self,
        account: Account,
        *,
        endpoint: str,
        arguments: dict[str, Any],
        faults: Faults,
        key: str = "",
        webhook_url: str | None = None,
        start_timeout: float | None = None,
        files: Lifecycle | None = None,
        payloads_kept: bool = True,
    ) -> Entry:
        terms = self.terms(account, files or Lifecycle())
        entry = Entry(
            request_id=new_request_id(),
            endpoint=endpoint,
            input=arguments,
            account=account,
            key=key or account.key,
            webhook_url=webhook_url,
            faults=faults,
            start_by=None if start_timeout is None else datetime.now(UTC) + timedelta(seconds=start_timeout),
            file_lifetime_seconds=terms.lifetime_seconds,
            file_access=terms.access,
            payloads_kept=payloads_kept,
        )
        self.book.add(entry)
        # Before it may start: a start of what is not on record would be passed over.
        self._journal.write(accepted(entry))
        if not payloads_kept:
            self.note(entry)
        self.line(account).join(entry, on_timeout=platform_failure("request_timeout"))
        return entry

    def cancel(self, entry: Entry) -> bool:
        """Ask that the request be given up. False: it is over."""
        if entry.state is State.COMPLETED:
            return False
        entry.cancel_requested = True
        self._journal.write(changed(entry))
        # In the queue it is removed and never runs; one in progress has only a signal, on which most of fal's models do
        # not act: it ends as usual and is charged. Assumed: what a removed one ends as, since no page of fal's says it.
        self.line(entry.account).leave(entry, platform_failure("client_cancelled"))
        return True

    def line(self, account: Account) -> Line:
        # By account: at fal all its keys draw on the same slots.
        if account.user_id not in self._lines:
            self._lines[account.user_id] = Line(
                slots=self.options.concurrency, work=self._run, began=self._on_started, done=self._on_finished
            )
        return self._lines[account.user_id]

    def reset_platform(self) -> None:
        """Have models, bills to come, limits and settings as they were at first."""
        self.catalogue.reset()
        self.charges.reset()
        self.rate_limit.set(None, seconds=60)  # fal counts by the minute, and publishes no numbers
        self.request_list: Literal["sent", "ended"] = "sent"
        self.request_list_lag = 0.0
        self.pricing_is_strict = False
        for user_id in self._storage:
            self._journal.write(storage_set(user_id, None))
        self._storage = {}

    def storage_settings(self, account: Account) -> dict[str, Any]:
        """Return what the account has set for its files; as it comes they are there for ever, and for everybody."""
        return self._storage.get(account.user_id, {"expiration_duration_seconds": None, "initial_acl": None})

    def set_storage(self, account: Account, settings: dict[str, Any]) -> None:
        self._storage[account.user_id] = settings
        self._journal.write(storage_set(account.user_id, settings))

    def terms(self, account: Account, asked: Lifecycle) -> Terms:
        """Return how a file of the account is kept: as was asked for it, else by the account's setting."""
        settings = self.storage_settings(account)
        return Terms(
            owner=account.user_id,
            lifetime_seconds=settings["expiration_duration_seconds"]
            if asked.seconds is None
            else asked.seconds or None,
            access=asked.access or (settings["initial_acl"] or {}).get("default", "allow"),
        )

    def refuse_if_locked(self, account: Account) -> None:
        """Raise FalError for a submit by an account whose balance is used up."""
        if self.charges.is_locked(account):
            self.book.refusals["balance"] += 1
            raise user_is_locked()

    def stats(self) -> dict[str, Any]:
        entries = self.book.entries()
        lines = self._lines.values()
        outcomes = [entry.outcome for entry in entries if entry.outcome]
        return {
            "client_requests": self.client_requests,
            "submit_calls": self.book.submit_calls,
            "submits": len(entries),
            "submits_by_endpoint": dict(Counter(entry.endpoint for entry in entries)),
            "refused_by_rule": dict(self.book.refusals),
            "in_queue": sum(line.waiting for line in lines),
            "in_progress": self._running,
            "max_in_progress": self._peak,
            "max_in_progress_by_account": {user_id: line.peak for user_id, line in self._lines.items()},
            "max_open_by_account": {user_id: line.most_open for user_id, line in self._lines.items()},
            "succeeded": sum(outcome.succeeded for outcome in outcomes),
            "failed": sum(not outcome.succeeded for outcome in outcomes),
            "webhook_posts": sum(len(entry.deliveries) for entry in entries),
            "cdn_reads_with_key": self.cdn.reads_with_key,
            "calls_by_provider": self.others.calls.stats(),
        }

    async def _run(self, entry: Entry) -> Outcome:
        self._running += 1
        self._peak = max(self._peak, self._running)
        try:
            while entry.retries < entry.faults.retries:
                await self._inference.lose_runner(entry)
                # The caller's time-out ends no try, but after it none is begun: fal counts those that failed, too.
                if entry.start_by is not None and datetime.now(UTC) >= entry.start_by:
                    return platform_failure("request_timeout")
                entry.try_again()
                self.note(entry)  # a kill does not give it its tries back
            return await self._inference.run(entry)
        except Exception:
            # A request that never ended would keep its slot for ever.
            _log.exception("request %s failed inside the simulator", entry.request_id)
            return platform_failure("internal_error")
        finally:
            self._running -= 1

    def _charge(self, entry: Entry) -> None:
        """Charge a success, which alone costs something."""
        # A model that operators added to an earlier process is not known to this one.
        endpoint = self.catalogue.endpoints.get(entry.endpoint)
        if endpoint is not None and entry.outcome is not None and entry.outcome.succeeded:
            self.charges.charge(entry, endpoint.card)

    def _on_started(self, entry: Entry) -> None:
        self._journal.write(started(entry))

    def _on_finished(self, entry: Entry) -> None:
        self._charge(entry)
        # Before anybody is told: after a kill the result has to be there.
        self._journal.write(finished(entry))
        self._announce(entry)

    def _announce(self, entry: Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._send_webhooks(entry))
        self._announcements.add(task)
        task.add_done_callback(self._announcements.discard)

    async def _send_webhooks(self, entry: Entry) -> None:
        if entry.webhook_url is None:
            entry.announced.set()
        else:
            await self.sender.announce(entry)
        entry.is_announced = True
        self._journal.write(announced(entry))
