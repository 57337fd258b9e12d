"""ElevenLabs behind the seam of all providers: one POST, whose answer is the sound.

The SDK (`elevenlabs`) streams it and repeats nothing.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import httpx

from darkroom.errors import Retry, SubmitUnknown
from darkroom.ledger import Outcome, Request, Transition
from darkroom.providers.base import Accepted, Provider
from darkroom.providers.elevenlabs.failures import classify_refusal
from darkroom.providers.elevenlabs.model import CATALOGUE
from darkroom.providers.http import lost_submit
from darkroom.providers.outcomes import failed
from darkroom.tls import tls_context

SILENCE_SECONDS = 60.0  # between two pieces of an answer
# Less than the two minutes after which a row without an answer is given up, and its text paid once more.
PATIENCE_SECONDS = 110.0  # from the call to the last piece
MOST_BYTES = 32 << 20  # half an hour of sound
PIECE_BYTES = 1 << 16
OUTPUT_FORMAT = "mp3_44100_128"
VOICE_SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")
OTHERS = ("language_code", "seed", "previous_text", "next_text")


class Speech(Provider):
    """One account. Thread-safe; `transport` is the seam for tests."""

    immediate = True

    def __init__(self, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # Imported by who needs it: a fifth of a second.
        from elevenlabs.client import ElevenLabs

        self._http = httpx.Client(transport=transport, verify=tls_context())
        self._client = ElevenLabs(api_key=key.strip(), httpx_client=self._http, timeout=SILENCE_SECONDS)

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        from elevenlabs.core.api_error import ApiError

        model = CATALOGUE[row.endpoint]
        cost = model.cost(input, {}, None)
        try:
            sound, request_id = self._speak(model.name, input)
        except ApiError as error:
            # Not `from error`: its text is the whole answer, and may quote what was sent.
            raise classify_refusal(error.status_code or 0, error.body, error.headers or {}) from None
        except httpx.HTTPError as error:
            raise lost_submit("ElevenLabs", error) from error
        # A 200 without a sound: its characters are billed all the same.
        if not sound:
            return failed(row, Retry("ElevenLabs answered with no sound", code="unexpected_output"), cost_usd=cost)
        output = {
            "audio": {
                "url": "data:audio/mpeg;base64," + base64.b64encode(sound).decode(),
                "content_type": "audio/mpeg",
            },
            "characters": len(str(input["text"])),
            "request_id": request_id,
        }
        return Outcome(transition=Transition.SUCCEED, output=output, cost_usd=cost)

    def _speak(self, name: str, input: Mapping[str, Any]) -> tuple[bytes, str | None]:
        from elevenlabs import VoiceSettings

        others: dict[str, Any] = {key: input[key] for key in OTHERS if key in input}
        if settings := {key: input[key] for key in VOICE_SETTINGS if key in input}:
            others["voice_settings"] = VoiceSettings(**settings)
        until = time.monotonic() + PATIENCE_SECONDS
        pieces = bytearray()
        with self._client.text_to_speech.with_raw_response.convert(
            input["voice_id"],
            text=input["text"],
            model_id=name,
            output_format=OUTPUT_FORMAT,
            request_options={"chunk_size": PIECE_BYTES},
            **others,
        ) as response:
            for piece in response.data:
                pieces += piece
                # The time-out is of the silence between two pieces: a trickle without an end would hold its slot.
                if time.monotonic() > until or len(pieces) > MOST_BYTES:
                    # Whoever breaks off in its middle has paid for it all the same.
                    raise SubmitUnknown("ElevenLabs' answer did not come to its end")
            return bytes(pieces), response.headers.get("request-id")

    def poll(self, row: Request) -> Outcome | None:
        """Return None, as nobody can be asked: an answer exists once."""
        return None

    def close(self) -> None:
        self._http.close()
