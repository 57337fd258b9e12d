"""fal behind the seam of all providers: files go to its CDN, the call into its queue, its end comes by webhook.

Not part of the package's door: it speaks the ledger's language, and the rest of the package need not know it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from darkroom.clock import utc_now
from darkroom.errors import Permanent
from darkroom.ledger import Ledger, Outcome, Request
from darkroom.media.formats import Media
from darkroom.models import Path
from darkroom.providers.base import ASSET, Accepted, Bills, Files, Progress, Provider
from darkroom.providers.fal.billing import SOURCE, FalBilling
from darkroom.providers.fal.client import Fal
from darkroom.providers.fal.lost_submits import adopt_lost_submits
from darkroom.providers.fal.outcomes import poll
from darkroom.providers.fal.training_logs import read_steps
from darkroom.providers.fal.uploads import file_name
from darkroom.providers.models import model_of
from darkroom.timing import UNSCALED, Timing

# How long fal keeps the copy of a file that an input names: what is left of the call's deadline, and some hours for
# whoever looks into it. Only where the model's schema says that it takes a file: a prompt may say anything.
LIFETIME = timedelta(days=1)
SHORTER = {"images_data_url": timedelta(hours=5)}  # faces, mostly: the training's two hours and three more
# A LoRA's weights are 90 MB, and serve one picture after the other: one copy at fal serves all of a day. It is used
# while it lasts for longer than a picture may take.
SHARED = frozenset({"path"})
LASTS_BEYOND = timedelta(hours=1)
# What a training makes is stored by us within minutes. fal would keep it, for whoever knows the address, for ever.
OUTPUTS_LAST = {"fal-ai/flux-lora-fast-training": timedelta(days=1)}


class FalProvider(Provider):
    def __init__(self, fal: Fal, *, timing: Timing = UNSCALED, billing: FalBilling | None = None) -> None:
        self.client = fal
        self._billing = billing
        self._timing = timing
        self._sharing = threading.Lock()

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        """Put files of the media store on fal's CDN and return the input with their addresses.

        Anybody who knows an address can read the file while it lasts.
        """
        return dict(self._sent(input, (), frozenset(files.places or ()), files))

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        taken = self.client.submit(
            row.endpoint,
            input,
            webhook_url=webhook_url,
            start_timeout=self._timing.scale(model_of(row).start_timeout),
            outputs_last=OUTPUTS_LAST.get(row.endpoint),
        )
        # fal gives each try that it makes by itself another gateway id; the request keeps its own.
        return Accepted(request_id=taken.request_id, first_try=taken.gateway_request_id)

    def poll(self, row: Request) -> Outcome | None:
        return poll(self.client, row)

    def cancel(self, row: Request) -> None:
        assert row.request_id is not None
        self.client.cancel(row.endpoint, row.request_id)

    def progress(self, row: Request) -> Progress | None:
        """Return how far a call has come: its place in fal's queue, or by the log of a training."""
        assert row.request_id is not None
        status = self.client.status(row.endpoint, row.request_id)
        if status.state == "IN_QUEUE" and status.queue_position is not None:
            return Progress(percent=0, text=f"waits at fal, {status.queue_position} before it")
        steps = read_steps(str(line.get("message")) for line in status.logs)
        return None if steps is None else Progress(percent=steps.percent, text=str(steps))

    def confirm(self, row: Request, request_id: str) -> bool:
        try:
            return self.client.confirm(row.endpoint, request_id)
        except Permanent:
            # An id that could lead elsewhere in an address is nobody's.
            return False

    def find_lost(self, ledger: Ledger, rows: Sequence[Request]) -> list[str]:
        return adopt_lost_submits(ledger, self.client, rows)

    def bills(self, request_ids: Sequence[str], *, since: datetime) -> Bills | None:
        if self._billing is None:
            return None
        usd = self._billing.bills(request_ids, since=since)
        return None if usd is None else Bills(usd=usd, source=SOURCE)

    def balance(self) -> Decimal | None:
        return None if self._billing is None else self._billing.balance()

    def close(self) -> None:
        self.client.close()
        if self._billing is not None:
            self._billing.close()

    def _sent(self, value: Any, path: Path, places: frozenset[Path], files: Files) -> Any:
        """Return a value of the input with the files in it at fal: those at the places that the schema names."""
        if isinstance(value, Mapping):
            return {name: self._sent(each, (*path, name), places, files) for name, each in value.items()}
        if isinstance(value, list):
            return [self._sent(each, (*path, n), places, files) for n, each in enumerate(value)]
        if path not in places:
            return value
        name = next((part for part in reversed(path) if isinstance(part, str)), "")
        return self._at_fal(name, value, files, SHORTER.get(name, LIFETIME))

    def _at_fal(self, name: str, value: Any, files: Files, lifetime: timedelta) -> Any:
        if not isinstance(value, str) or not value.startswith(ASSET):
            return value
        if name in SHARED:
            return self._share(value, files, lifetime)
        return self._upload(value, files.read(value), lifetime)

    def _share(self, reference: str, files: Files, lifetime: timedelta) -> str:
        """Return the file's address at fal's CDN, and upload it where no copy is there."""
        # One after the other: the next of several at once finds the copy that the first has brought.
        with self._sharing:
            now = utc_now()
            if (url := files.copy_at("fal", reference, until=now + LASTS_BEYOND)) is None:
                url = self._upload(reference, files.read(reference), lifetime)
                files.keep_copy("fal", reference, url=url, expires_at=now + lifetime)
            return url

    def _upload(self, reference: str, media: Media, lifetime: timedelta) -> str:
        name = file_name(reference.removeprefix(ASSET), media.extension)
        return self.client.upload(media.content, content_type=media.content_type, file_name=name, lifetime=lifetime)
