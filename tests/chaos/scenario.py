"""What happens, and when: pure functions of the number of jobs and the seed.

The moments are drawn once; what is in progress at each of them is for the machine to decide, so two runs of a seed
are alike and not the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

THOROUGH = 100  # jobs, from which on everything is killed three times
WAVES = 5
WEBHOOKS = {"lost": 0.2, "twice": 0.2, "early": 0.2}
SUBMITS = {"cut": 0.05, "429": 0.05 / 3, "500_fal": 0.05 / 3, "503_nginx": 0.05 / 3}
FILES = {"truncated_once": 0.01, "missing": 0.005, "html": 0.005, "cut_short": 0.005, "truncated": 0.005}
# A file that is no better the next time, and the code of the error that says so.
BROKEN_FOR_GOOD = {
    "missing": "file_missing",
    "html": "wrong_type",
    "cut_short": "file_unverified",
    "truncated": "file_unverified",
}


class Victim(StrEnum):
    WORKER = "worker"
    FORKSERVER = "forkserver"  # the worker's: it forks the flow processes, and they die with it
    FLOW = "flow"  # a process that carries jobs
    GATEWAY = "gateway"
    PREFECT = "prefect"
    POSTGRES = "postgres"
    ALL = "all"  # in the same second, but for the supervisor, which starts them again
    MACHINE = "machine"  # the supervisor too: `darkroom up` is started again in the same home


PARTS = (Victim.WORKER, Victim.FORKSERVER, Victim.FLOW, Victim.GATEWAY, Victim.PREFECT, Victim.POSTGRES)


@dataclass(frozen=True, kw_only=True)
class Order:
    number: int
    user: str
    body: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"order-{self.number}"


@dataclass(frozen=True, kw_only=True)
class Kill:
    victim: Victim


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Of the provider."""

    seconds: float
    mode: str

    def __str__(self) -> str:
        return f"time of {self.seconds:g} s ({self.mode})"


Disaster = Kill | Outage


@dataclass(frozen=True, kw_only=True)
class Scenario:
    jobs: int
    seed: int
    users: tuple[str, ...] = ("ann", "ben", "cleo", "dan", "eve")
    slots: int = 10
    in_flight: int = 4  # of one user: three of them fill the slots
    latency_seconds: float = 1.5
    patience_seconds: float = 2.0  # short, so that runs do suspend
    time_scale: float = 1.0  # of the limits that the stack keeps

    @property
    def thorough(self) -> bool:
        return self.jobs >= THOROUGH

    @property
    def kills_of_each(self) -> int:
        return 3 if self.thorough else 1

    @property
    def seconds(self) -> float:
        """Over which orders come and things die."""
        return 200.0 if self.thorough else 25.0

    @property
    def longest_seconds(self) -> float:
        """Until the last job has ended, however it went: a call of which nothing is heard is given up by our limits."""
        return (300.0 if self.thorough else 60.0) + 1200.0 * self.time_scale

    def victims(self) -> list[Victim]:
        whole = [Victim.ALL, Victim.MACHINE] if self.thorough else []
        return [*PARTS * self.kills_of_each, *whole]

    def rules(self) -> list[dict[str, Any]]:
        """Of the simulator. Submit, webhook and file each go wrong by chances of their own."""
        return [*_rules("submit", SUBMITS), *_rules("webhook", WEBHOOKS), *_rules("file", FILES)]

    def orders(self) -> list[tuple[float, Order]]:
        """Seconds from the beginning → what is ordered then. In waves, every other one a burst."""
        draw, span = Random(f"{self.seed}/orders"), self.seconds / WAVES
        waves = [number * WAVES // self.jobs for number in range(self.jobs)]
        late = [0.0 if wave % 2 == 0 else span * draw.random() for wave in waves]
        found = [(span * wave + late[n], self._order(n, draw)) for n, wave in enumerate(waves)]
        return sorted(found, key=lambda each: each[0])

    def disasters(self) -> list[tuple[float, Disaster]]:
        """Seconds from the beginning → what happens then."""
        draw = Random(f"{self.seed}/disasters")
        victims = self.victims()
        draw.shuffle(victims)
        pace = self.seconds / len(victims)
        kills = [(pace * (n + draw.random()), Kill(victim=victim)) for n, victim in enumerate(victims)]
        outage = (self.seconds * draw.uniform(0.2, 0.6), self._outage(draw))
        return sorted([*kills, outage], key=lambda each: each[0])

    def outages(self) -> list[Outage]:
        return [each for _, each in self.disasters() if isinstance(each, Outage)]

    def _outage(self, draw: Random) -> Outage:
        return Outage(seconds=60.0 if self.thorough else 5.0, mode=draw.choice(["nginx", "refuse"]))

    def _order(self, number: int, draw: Random) -> Order:
        body = {
            "prompt": f"storm {self.seed}, picture {number}",
            "model": draw.choice(["fal-ai/flux/dev", "fal-ai/flux/schnell"]),
            "image_size": draw.choice(["square", {"width": 320, "height": 256}]),
            "num_images": draw.choice([1, 1, 1, 2]),
            "arguments": {"output_format": draw.choice(["jpeg", "png"])},
        }
        return Order(number=number, user=draw.choice(self.users), body=body)


def _rules(dimension: str, shares: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """The first that applies decides within a dimension: each chance is one among those that the earlier ones left."""
    left = 1.0
    for fault, share in shares.items():
        yield {dimension: fault, "chance": share / left, "combines": True}
        left -= share
