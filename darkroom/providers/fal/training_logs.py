"""How far a training has come, read from what the trainer writes while it works: lines of tqdm's progress bars.

fal gives the log of a request with its status (`logs=1`), as the trainer wrote it: a bar for loading the models, one
for the captions, one for the training itself, each drawn again and again, several drawings in one line. Nothing about
these lines is promised, so whatever cannot be read is passed over: progress is for looking only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Fewer are never training steps: they are files being loaded, or pictures being captioned (at most 50).
FEWEST_STEPS = 60
LONGEST_MESSAGE = 20_000  # characters that are looked at

# "Training:  40%|████      | 400/1000 [02:10<03:15,  3.07it/s, loss=0.31]"; before the first step "<?, ?it/s".
# Every repetition is bounded, so that what is no bar is left in a time that grows with its length alone.
BAR = re.compile(
    r"(?P<percent>\d{1,3})%\|[^|\r\n]{0,200}\|\s{0,8}(?P<done>\d{1,9})/(?P<total>\d{1,9})\s{0,8}"
    r"\[[\d:]{1,20}<(?P<left>[\d:]{1,20}|\?)"
)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps of a training, and seconds that are left by the trainer's own reckoning."""

    done: int
    total: int
    seconds_left: int | None

    @property
    def percent(self) -> float:
        return 100 * self.done / self.total

    def __str__(self) -> str:
        counted = f"step {self.done:,} of {self.total:,}"
        return counted if self.seconds_left is None else f"{counted}, {_about(self.seconds_left)} left"


def read_steps(messages: Iterable[str]) -> Steps | None:
    """Return the newest of the bars that counts training steps; None before the training began.

    `messages`: oldest first.
    """
    bars = [steps for message in messages for steps in _bars(message)]
    # Trainers draw sample pictures in between, with a shorter bar of their own.
    most = max((steps.total for steps in bars), default=0)
    return next((steps for steps in reversed(bars) if steps.total == most), None)


def _bars(message: str) -> Iterable[Steps]:
    # The newest drawings are at the end.
    for found in BAR.finditer(message[-LONGEST_MESSAGE:]):
        done, total = int(found["done"]), int(found["total"])
        if total >= FEWEST_STEPS and done <= total:
            yield Steps(done=done, total=total, seconds_left=_seconds(found["left"]))


def _seconds(clock: str) -> int | None:
    """Read the seconds of "03:15" or "1:03:15"; return None for "?"."""
    parts = clock.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return seconds


def _about(seconds: int) -> str:
    return f"about {round(seconds / 60)} min" if seconds >= 90 else f"about {seconds} s"
