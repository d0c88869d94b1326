"""Where two plain runs differ, others may, too; but no more than these."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from adaptive_diffusion import ErrorControlled, Report
from adaptive_diffusion.checking import Status, judgements
from adaptive_diffusion.checking.outputs import Outputs
from adaptive_diffusion.checking.trials import AcceleratedTrial, Step

PICTURES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HALVED = [[True, True, False, True, False, True]]


def trial(
    *offsets: float,
    mask: list[list[bool]] = HALVED,
    seconds: float = 1.0,
    calls_in_skipped: int = 0,
    **report: object,
) -> AcceleratedTrial:
    """A run whose samples are off by so much."""
    changes = torch.tensor([*offsets, *[0.0] * (2 - len(offsets))]).view(2, 1, 1, 1)
    steps = [
        Step(
            list(computed),
            Counter(unet=1 if any(computed) else calls_in_skipped),
            0.010 if any(computed) else 0.001,
        )
        for computed in zip(*mask, strict=True)
    ]
    told = Report(ErrorControlled(), mask, 0.1, roles={"unet": "denoiser"}, **report)  # type: ignore[arg-type]
    return AcceleratedTrial(Outputs([PICTURES + changes]), seconds, Counter(), told, steps)


@pytest.mark.parametrize(
    ("offset", "floor", "status"),
    [
        (0.0, math.inf, Status.OK),
        (0.0, 30.0, Status.OK),
        (1e-3, math.inf, Status.FAULT),  # 60 dB
        (1e-3, 65.0, Status.LIMIT),
        (1e-3, 75.0, Status.FAULT),
        (1e-3, -math.inf, Status.LIMIT),
    ],
)
def test_identity(offset: float, floor: float, status: Status) -> None:
    whole = [[True] * 6]
    (found,) = judgements.of_identity(trial(offset, mask=whole), trial(), floor)
    assert found.status is status
    again = judgements.of_repetition(trial(offset), trial(), floor)
    assert again.status is status


def test_a_skip_at_tolerance_0_is_a_fault() -> None:
    (found,) = judgements.of_identity(trial(), trial(), math.inf)
    assert found.status is Status.FAULT


@pytest.mark.parametrize(
    ("planned", "calls", "status", "words"),
    [
        (2, 0, Status.OK, "2 of 6 steps were skipped, as planned"),
        (0, 0, Status.LIMIT, "Not tried"),
        (4, 0, Status.LIMIT, "Of 4 steps to be skipped, 2 were computed"),
        (1, 0, Status.FAULT, "2 steps were skipped, and 1 planned"),
        (2, 3, Status.LIMIT, "a denoiser was called 6 times"),
    ],
)
def test_plans(planned: int, calls: int, status: Status, words: str) -> None:
    found = judgements.of_skips(trial(calls_in_skipped=calls), planned, trial())
    assert found.status is status
    assert words in found.text


@pytest.mark.parametrize(
    ("repeats", "status"), [(True, Status.OK), (None, Status.OK), (False, Status.LIMIT)]
)
def test_backfill(repeats: bool | None, status: Status) -> None:
    assert judgements.of_backfill(trial(repeats=repeats)).status is status


def test_times_are_medians_of_steps_after_the_first() -> None:
    figures: dict[str, float] = {}
    (found,) = judgements.of_times(trial(mask=[[True] * 6]), [trial()], figures)
    assert found.status is Status.OK
    assert figures == {"seconds_computed_step": 0.010, "seconds_skipped_step": 0.001}
    assert list(judgements.of_times(trial(), [trial(mask=[[True] * 6])], figures)) == []


@pytest.mark.parametrize(
    ("offset", "floor", "mask", "status"),
    [
        (0.01, math.inf, HALVED, Status.OK),  # 40 dB
        (0.1, math.inf, HALVED, Status.LIMIT),  # 20 dB
        (0.1, 25.0, HALVED, Status.OK),
        (math.nan, math.inf, HALVED, Status.FAULT),
        (0.0, math.inf, [[True] * 6], Status.LIMIT),
    ],
)
def test_default(offset: float, floor: float, mask: list[list[bool]], status: Status) -> None:
    figures: dict[str, float] = {}
    found = judgements.of_default(trial(offset, mask=mask), trial(), floor, figures)
    assert found.status is status
    assert figures["nfe_reduction"] == 6 / sum(mask[0])


TWO = [HALVED[0], [True, True, True, False, True, True]]


@pytest.mark.parametrize(
    ("mixed", "floor", "status"),
    [
        ((0.1, -0.1), math.inf, Status.OK),
        ((0.1 + 1e-4, -0.1), math.inf, Status.OK),
        ((-0.1, -0.1), math.inf, Status.FAULT),
        ((0.1, 0.4), math.inf, Status.FAULT),
        ((0.1, 0.4), 12.0, Status.LIMIT),
    ],
)
def test_rows(mixed: tuple[float, float], floor: float, status: Status) -> None:
    """The first sample's plan leads to 0.1 more than the truth, the second's to 0.1 less."""
    first, second = trial(0.1, 0.1), trial(-0.1, -0.1)
    found = judgements.of_rows(trial(*mixed, mask=TWO), first, second, floor, 70.0)
    assert found.status is status


@pytest.mark.parametrize(
    ("mask", "notes", "words"),
    [
        (HALVED, ["the batch is decided as a whole: for a reason"], "for a reason"),
        ([], ["nothing was skipped: for a reason"], "Nothing was skipped: for a reason"),
        (HALVED * 2, [], "too few steps"),
    ],
)
def test_rows_that_are_not_told_apart(mask: list[list[bool]], notes: list[str], words: str) -> None:
    found = judgements.of_rows(trial(mask=mask, notes=notes), trial(), trial(), math.inf, 70.0)
    assert found.status is Status.LIMIT
    assert words in found.text
