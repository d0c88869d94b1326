"""A skipped step launches few operators and waits for nothing."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from operators import counted
from toy_solver import Step
from toy_statistics import statistics_on

from adaptive_diffusion import ErrorControlled, NoiseSchedule, Planned, Policy
from adaptive_diffusion.trajectory import Trajectory

STEPS = 24
SCHEDULE = NoiseSchedule.uniform(STEPS)
MOST_OPERATORS = 24
"""Of a skipped step; the solver's own two are among them."""

POLICIES: dict[str, Policy] = {
    "measured": Planned(8, ((statistics_on(SCHEDULE),),)),
    "not measured": Planned(8),
    "error controlled": ErrorControlled(0.05),
}


def counts(policy: Policy, samples: int) -> tuple[list[bool], list[Counter[str]]]:
    """The first sample's mask, and what each step has launched beside the denoiser.

    In a second run: in the first one a plan is made and weights are, on the CPU.
    """
    run(policy, samples)
    return run(policy, samples)


def run(policy: Policy, samples: int) -> tuple[list[bool], list[Counter[str]]]:
    trajectory = Trajectory(policy, SCHEDULE, samples)
    x, output = torch.randn(samples, 4, 8, 8, generator=torch.manual_seed(0)), torch.zeros(())
    found = []
    while trajectory.step < STEPS:
        with counted() as before:
            plan = trajectory.open()
        if any(plan):
            output = torch.sin(2 * x) + 0.02 * trajectory.step * x
        with counted() as after:
            x = trajectory.advance("only", output, x, Step())
            trajectory.close()
        found.append(before + after)
    assert x.isfinite().all()
    return trajectory.mask[0], found


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", ["measured", "not measured"])
def test_a_skipped_step_launches_little_and_reads_nothing(name: str, samples: int) -> None:
    mask, found = counts(POLICIES[name], samples)
    skipped = [count for count, computed in zip(found, mask, strict=True) if not computed]
    assert len(skipped) == STEPS - 8
    for count in skipped:
        assert count["reads"] == 0
        assert count["aten._local_scalar_dense.default"] == 0
        assert count.total() <= MOST_OPERATORS


@pytest.mark.parametrize("name", POLICIES)
def test_a_computed_step_reads_once_at_most(name: str) -> None:
    """The errors of all samples together, and twice whether steps repeat, when that is tried."""
    mask, found = counts(POLICIES[name], 1)
    reads = [count["reads"] for count, computed in zip(found, mask, strict=True) if computed]
    assert sum(read > 1 for read in reads) <= 2
    assert all(count["reads"] == 0 for count, c in zip(found, mask, strict=True) if not c)


def test_operators_of_a_skipped_step_do_not_grow_with_the_run() -> None:
    mask, found = counts(Planned(4, ((statistics_on(SCHEDULE),),)), 1)
    totals = [count.total() for count, c in zip(found, mask, strict=True) if not c]
    assert max(totals) - min(totals) <= 6
