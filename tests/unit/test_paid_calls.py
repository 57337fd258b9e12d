"""A process that is told to end: which paid calls it still makes, and that it has the answers of those under way."""

from __future__ import annotations

import threading

import pytest

from darkroom.engine.paid_calls import PaidCalls
from darkroom.errors import Retry
from darkroom.providers.elevenlabs import provider as elevenlabs
from darkroom.providers.gemini import provider as gemini
from darkroom.providers.web.fetching import PATIENCE
from darkroom.timing import ANSWER_PATIENCE, SUBMIT_PATIENCE


def test_a_process_that_ends_begins_no_call_and_waits_for_those_under_way() -> None:
    """Also for those that fail."""
    calls, waited = PaidCalls(), threading.Event()

    def wait() -> None:
        calls.wait()
        waited.set()

    def ends_badly() -> None:
        with calls.one():
            assert calls.begin_no_more()
            waiting.start()
            with pytest.raises(Retry), calls.one():
                pass
            assert not waited.is_set()
            raise OSError

    waiting = threading.Thread(target=wait)
    with pytest.raises(OSError):
        ends_badly()
    waiting.join()
    assert not calls.begin_no_more()


def test_an_answer_is_waited_for_as_long_as_any_provider_may_take() -> None:
    longest = max(elevenlabs.PATIENCE_SECONDS, gemini.TIMEOUT_SECONDS, PATIENCE.total_seconds())
    assert ANSWER_PATIENCE.total_seconds() > max(longest, SUBMIT_PATIENCE.total_seconds())
