"""How much longer a debate takes than its longest way through the providers, who take a known time here.

That way is script, picture, film, composite, upload; the second picture and the voice go on beside it. The composite is
our own work, so it counts with what it took. Everything else is what Darkroom and Prefect add: starting a run, getting
it back from its suspension, files on their way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from acceptance.running import Stack, running_stack

from darkroom.flows.make_debate import FILMS

SECONDS = {"script": 2.0, "mascot-1": 1.5, "film": 9.0, "upload": 1.0}  # of the longest way
VOICE_SECONDS = 2.0
LATENCIES = (
    *("--latency", str(SECONDS["mascot-1"])),
    *("--latency-of", f"gemini={SECONDS['script']}"),
    *("--latency-of", f"elevenlabs={VOICE_SECONDS}"),
    *("--latency-of", f"mux={SECONDS['upload']}"),
    *("--latency-of", f"{FILMS}={SECONDS['film']}"),
)
ROUNDS = 4
ALLOWED = 1.15


@dataclass(frozen=True, kw_only=True)
class Part:
    """What lasted from when to when, in seconds since the order."""

    name: str
    begun: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    wall: float
    parts: tuple[Part, ...]

    @property
    def critical(self) -> float:
        composite = next(part for part in self.parts if part.name == "composite")
        return sum(SECONDS.values()) + composite.ended - composite.begun

    def lines(self) -> Iterator[str]:
        """A bar for each part; a letter is a quarter of a second."""
        for part in sorted(self.parts, key=lambda part: part.begun):
            bar = " " * round(part.begun * 4) + "█" * max(1, round((part.ended - part.begun) * 4))
            yield f"{part.name:10} {part.begun:6.2f} – {part.ended:5.2f} s  {bar}"


def test_a_debate_takes_little_longer_than_its_longest_way(tmp_path: Path) -> None:
    """At most 15 %, by the best of them: whatever else the machine does can only add. Each is alone in its run."""
    with running_stack(tmp_path / "home", *LATENCIES) as stack:
        stack.bearer("warm-up")
        users = [f"debater {number}" for number in range(ROUNDS)]
        for user in users:
            stack.bearer(user)
        measure(stack, "warm-up")
        measured = sorted((measure(stack, user) for user in users), key=lambda each: each.wall / each.critical)
    print()
    print(*measured[0].lines(), sep="\n")
    for each in measured:
        print(f"{each.wall:.2f} s, longest way {each.critical:.2f} s: +{100 * (each.wall / each.critical - 1):.0f} %")
    assert measured[0].wall / measured[0].critical <= ALLOWED


def measure(stack: Stack, user: str) -> Measured:
    body = {"topic": "coffee or tea", "brands": [f"Fox of {user}", f"Hen of {user}"]}
    answer = stack.gateway.post("/v1/debates", json=body, headers=stack.bearer(user)).raise_for_status()
    job = stack.ended(answer.json()["job_id"], user=user)
    assert job["status"] == "completed", job["error"]
    begun = datetime.fromisoformat(job["created_at"])

    def since(moment: datetime | str) -> float:
        at = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
        return (at - begun).total_seconds()

    stored = {asset.step: asset.created_at for asset in stack.ledger.assets.of_job(job["id"])}
    calls = [
        Part(name=row["step"], begun=since(row["submitted_at"]), ended=since(row["finished_at"]))
        for row in job["requests"]
    ]
    composite = Part(name="composite", begun=since(stored["film"]), ended=since(stored["composite"]))
    return Measured(wall=since(job["finished_at"]), parts=(*calls, composite))
