"""What is read out of a trainer's log. The lines are those that tqdm writes in the trainers people use."""

from __future__ import annotations

import time

import pytest

from darkroom.providers.fal.training_logs import Steps, read_steps

LOADING = [
    "Downloading shards: 100%|██████████| 3/3 [00:12<00:00,  4.11s/it]",
    "Loading checkpoint shards:  50%|█████     | 1/2 [00:00<00:00,  6.13it/s]",
    "Loading checkpoint shards: 100%|██████████| 2/2 [00:00<00:00,  6.60it/s]",
    "Generating captions: 100%|██████████| 50/50 [00:31<00:00,  1.61it/s]",
    "Caching latents to disk: 100%|##########| 12/12 [00:01<00:00, 10.2it/s]",
]


@pytest.mark.parametrize(
    ("line", "percent", "text"),
    [
        ("Training:  40%|████      | 400/1000 [02:10<03:15,  3.07it/s]", 40.0, "step 400 of 1,000, about 3 min left"),
        (
            "my_first_flux_lora_v1:  12%|█▏        | 240/2000 [07:51<55:33,  1.89s/it, lr: 1.0e-04 loss: 3.868e-01]",
            12.0,
            "step 240 of 2,000, about 56 min left",
        ),
        (
            "steps:   1%|▏         | 10/1600 [00:40<1:47:10,  4.04s/it, avr_loss=0.311]",
            0.625,
            "step 10 of 1,600, about 107 min left",
        ),
        ("steps:   0%|          | 0/1600 [00:00<?, ?it/s]2024-08-16 INFO unet dtype", 0.0, "step 0 of 1,600"),
        ("  95%|#########5| 950/1000 [04:45<00:15,  3.33it/s]", 95.0, "step 950 of 1,000, about 15 s left"),
        ("100%|██████████| 1000/1000 [05:00<00:00,  3.33it/s]", 100.0, "step 1,000 of 1,000, about 0 s left"),
    ],
)
def test_a_bar_of_training_steps_is_read(line: str, percent: float, text: str) -> None:
    """As the trainers' versions of tqdm draw it, in blocks or in ASCII, fast or slow."""
    steps = read_steps([line])
    assert steps is not None
    assert (steps.percent, str(steps)) == (percent, text)


def test_a_line_that_was_drawn_over_counts_as_it_was_last() -> None:
    """A log keeps what a terminal would have wiped out: carriage returns, and escapes between the drawings."""
    line = "Training:   1%|  | 10/1000 [00:01<01:39]\rTraining:   2%|  | 20/1000 [00:02<01:38]\x1b[A\n"
    assert read_steps([line]) == Steps(done=20, total=1000, seconds_left=98)


def test_what_is_done_before_the_training_is_no_progress_of_it() -> None:
    """It would go to a hundred, and back to nothing."""
    assert read_steps(LOADING) is None
    assert read_steps([*LOADING, "Training:   5%|▌ | 50/1000 [00:15<04:45]"]) == Steps(
        done=50, total=1000, seconds_left=285
    )


def test_a_bar_within_the_training_does_not_stand_for_it() -> None:
    """Trainers draw sample pictures now and then, with a shorter bar of their own."""
    lines = ["Training:  50%|█████ | 500/1000 [02:30<02:30]", "Sampling: 100%|██████| 100/100 [00:09<00:00]"]
    assert read_steps(lines) == Steps(done=500, total=1000, seconds_left=150)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "epoch 1/16",
        "use Prodigy optimizer | {}",
        "40%|",
        "40%|████| 2000/1000 [00:01<00:01]",
        "40%|████| 400/0 [00:01<00:01]",
        "a" * 100_000,
        "9%|" * 30_000,
        "9%|" + " " * 50_000 + "| 400/1000 [",
    ],
    ids=lambda line: line[:20],
)
def test_what_cannot_be_read_is_passed_over_in_a_time_that_grows_with_its_length(line: str) -> None:
    """It comes from elsewhere: neither nonsense nor length may keep the one who reads it."""
    assert read_steps([line]) is None
    # Four times the length takes about four times as long, not sixteen; what takes no time at all says nothing.
    once, four = (min(_seconds(line * n) for _ in range(3)) for n in (1, 4))
    assert four < 10 * once or four < 0.05


def _seconds(line: str) -> float:
    began = time.process_time()
    read_steps([line])
    return time.process_time() - began


def test_a_time_left_that_cannot_be_read_is_left_out() -> None:
    """The steps are what matters."""
    assert read_steps(["10%|█ | 100/1000 [00:01<:, 1it/s]"]) == Steps(done=100, total=1000, seconds_left=None)
