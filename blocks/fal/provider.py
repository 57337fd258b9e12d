"""fal behind the seam of all providers: files go to its CDN, the call into its queue, its end comes by webhook.

Not part of the package's door: it speaks the ledger's language, and the rest of the package need not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from blocks.catalogue import find_model
from blocks.fal.client import Fal
from blocks.fal.uploads import file_name
from blocks.ledger import Outcome, Request
from blocks.media import Media
from blocks.outcomes import ask_provider
from blocks.provider import ASSET, Files, Progress, Taken

# Where an input names a file, and how long fal keeps its copy: what is left of the call's deadline, and some hours for
# whoever looks into it. No other field is looked at: a prompt may say anything.
LIFETIMES = {
    "image_url": timedelta(days=1),
    "path": timedelta(days=1),  # of a LoRA's weights
    "images_data_url": timedelta(hours=5),  # faces, mostly: the training's two hours and three more
}


class FalProvider:
    immediate = False

    def __init__(self, fal: Fal) -> None:
        self.client = fal

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        """Files of the media store go to fal's CDN, where whoever knows the address can read them while they last."""
        return {name: self._sendable(name, value, files) for name, value in input.items()}

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Taken | Outcome:
        start_timeout = find_model(row.endpoint).start_timeout
        taken = self.client.submit(row.endpoint, input, webhook_url=webhook_url, start_timeout=start_timeout)
        return Taken(request_id=taken.request_id)

    def ask(self, row: Request) -> Outcome | None:
        return ask_provider(self.client, row)

    def cancel(self, row: Request) -> None:
        assert row.request_id is not None
        self.client.cancel(row.endpoint, row.request_id)

    def progress(self, row: Request) -> Progress | None:
        return None

    def close(self) -> None:
        self.client.close()

    def _sendable(self, name: str, value: Any, files: Files) -> Any:
        if isinstance(value, list):
            return [self._sendable(name, each, files) for each in value]
        if isinstance(value, Mapping):
            return {within: self._sendable(within, each, files) for within, each in value.items()}
        lifetime = LIFETIMES.get(name)
        if lifetime is None or not isinstance(value, str) or not value.startswith(ASSET):
            return value
        return self._upload(value, files.read(value), lifetime)

    def _upload(self, reference: str, media: Media, lifetime: timedelta) -> str:
        name = file_name(reference.removeprefix(ASSET), media.extension)
        return self.client.upload(media.content, content_type=media.content_type, file_name=name, lifetime=lifetime)
