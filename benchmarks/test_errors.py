"""How long a user waits for the news that a picture was refused, beside how long for a picture."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from statistics import median

from acceptance.running import Stack, running_stack

ROUNDS = 7
LATENCY = "1"
ALLOWED = 1.1


def test_a_refusal_is_told_as_soon_as_a_picture(tmp_path: Path) -> None:
    """From the order to the end of the job, in turn, each in a run of its own: a refusal comes by its webhook, too."""
    with running_stack(tmp_path / "home", "--latency", LATENCY) as stack:
        stack.misbehave("refused", result="422_content_policy")
        users = [(f"painter {number}", f"offender {number}") for number in range(ROUNDS)]
        for user in ("warm-up", *(user for pair in users for user in pair)):
            stack.bearer(user)
        measure(stack, "a fox", user="warm-up")
        pictures, refusals = [], []
        for painter, offender in users:
            pictures.append(measure(stack, "a fox", user=painter))
            refusals.append(measure(stack, "refused", user=offender, ends="failed"))
    ratio = median(refusals) / median(pictures)
    print()
    print(f"a picture {median(pictures):.2f} s, a refusal {median(refusals):.2f} s, at most {max(refusals):.2f} s")
    print(f"refusal ÷ picture: {ratio:.2f}")
    assert ratio <= ALLOWED


def measure(stack: Stack, prompt: str, *, user: str, ends: str = "completed") -> float:
    """Seconds by the ledger's clock."""
    job = stack.ended(stack.order(prompt, user=user), user=user)
    assert job["status"] == ends, job
    created, finished = (datetime.fromisoformat(job[key]) for key in ("created_at", "finished_at"))
    return (finished - created).total_seconds()
