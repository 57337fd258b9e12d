"""What the status of a request shows with `logs=1`: a few words, and of a training its progress bar.

The trainer's lines are what tqdm prints to a file that keeps all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .book import Entry, State
from .cards.card import Card
from .cards.checking import with_defaults

_USUAL_STEPS = 1000  # of a trainer whose card states none; what fal's playground begins with
_MARKS = 50  # progress lines in all
# Shares of a training's time at which its steps begin and are done.
_PREPARED = 0.08
_TRAINED = 0.97
_BAR_WIDTH = 10
# tqdm draws eighths of a character.
_BLOCKS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, kw_only=True)
class Line:
    seconds: float  # since the request started
    text: str
    level: str = "INFO"


def log_of(entry: Entry, *, trainer: Card | None) -> list[dict[str, str]]:
    """Return `{message, timestamp, level, source}` each, oldest first. `trainer`: the card of what trains."""
    if entry.started_at is None:
        return []
    end = entry.finished_at or datetime.now(UTC)
    passed = (end - entry.started_at).total_seconds()
    lines = _trainer_lines(entry, passed, _steps(trainer, entry)) if trainer else _plain_lines(entry, passed)
    return [_as_fal_tells(line, entry.started_at) for line in lines]


def _as_fal_tells(line: Line, started_at: datetime) -> dict[str, str]:
    at = started_at + timedelta(seconds=line.seconds)
    return {"message": line.text, "timestamp": at.isoformat(), "level": line.level, "source": "USER"}


def _plain_lines(entry: Entry, passed: float) -> Iterator[Line]:
    yield Line(seconds=0, text="Starting inference")
    if entry.state is State.COMPLETED:
        yield Line(seconds=passed, text="Done")


def _trainer_lines(entry: Entry, passed: float, steps: int) -> Iterator[Line]:
    # Reckoned from the time that has passed, so that nothing has to run for them.
    succeeded = entry.outcome is not None and entry.outcome.succeeded
    for line in _training(steps=steps, seconds=entry.seconds):
        if line.seconds <= passed:
            yield line
        elif succeeded:
            # It was let go before its time.
            yield Line(seconds=passed, text=line.text, level=line.level)
    if succeeded:
        yield Line(seconds=passed, text="Done")


def _training(*, steps: int, seconds: float) -> Iterator[Line]:
    """Yield all that a training will have said in the end."""
    yield Line(seconds=0, text="Downloading the archive")
    yield Line(seconds=0.01 * seconds, text="Found the images, preparing them")
    # A bar that is not the training's comes first, as it does there: whoever reads the steps has to tell them apart.
    loaded = _bar("Loading checkpoint shards", 3, 3, 0.04 * seconds)
    yield Line(seconds=0.05 * seconds, text=loaded, level="STDERR")  # where tqdm writes
    begin, duration = _PREPARED * seconds, (_TRAINED - _PREPARED) * seconds
    for mark in range(_MARKS + 1):
        passed = duration * mark / _MARKS
        text = _bar("Training", round(steps * mark / _MARKS), steps, passed)
        yield Line(seconds=begin + passed, text=text, level="STDERR")
    yield Line(seconds=_TRAINED * seconds, text="Uploading the weights")


def _steps(trainer: Card, entry: Entry) -> int:
    arguments = with_defaults(trainer, entry.input)
    steps = arguments.get("steps", arguments.get("number_of_steps"))
    return steps if isinstance(steps, int) and steps > 0 else _USUAL_STEPS


def _bar(name: str, done: int, total: int, seconds: float) -> str:
    """E.g. `Training:  40%|████      | 400/1000 [02:10<03:15,  3.07it/s]`, as tqdm writes it."""
    share = done / total
    if done == 0 or seconds <= 0:
        timing = f"{_clock(seconds)}<?, ?it/s"
    else:
        rate = done / seconds
        # What takes more than a second a step is told the other way round, as tqdm does.
        speed = f"{rate:5.2f}it/s" if rate >= 1 else f"{1 / rate:5.2f}s/it"
        timing = f"{_clock(seconds)}<{_clock((total - done) / rate)}, {speed}"
    return f"{name}: {share * 100:3.0f}%|{_blocks(share)}| {done}/{total} [{timing}]"


def _blocks(share: float) -> str:
    whole, part = divmod(int(share * _BAR_WIDTH * 8), 8)
    bar = "█" * whole
    return bar if whole == _BAR_WIDTH else bar + _BLOCKS[part] + " " * (_BAR_WIDTH - whole - 1)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
