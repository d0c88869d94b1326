"""One generation, with a solver and a denoiser of a line each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_solver import Step

from adaptive_diffusion import (
    ErrorControlled,
    FixedSchedule,
    NoiseSchedule,
    Policy,
    StepsError,
    ThirdOrder,
    Trace,
)
from adaptive_diffusion.trajectory import Trajectory

STEPS = 16
SCHEDULE = NoiseSchedule.uniform(STEPS)


def denoise(x: Tensor, step: int) -> Tensor:
    return torch.sin(2 * x) + 0.5 * x * math.cos(0.3 * step)


def start(samples: int) -> Tensor:
    return torch.randn(samples, 5, generator=torch.Generator().manual_seed(0))


def run(trajectory: Trajectory, x: Tensor) -> Tensor:
    """As an adapter does: rows that are not computed hold the last output."""
    output = torch.full_like(x, math.nan)
    while trajectory.step < STEPS:
        plan = trajectory.open()
        rows = torch.tensor(plan)[:, None].expand(len(x), 1)
        output = torch.where(rows, denoise(x, trajectory.step), output)
        x = trajectory.advance("only", output, x, Step())
        trajectory.close()
    return x


def plain(x: Tensor) -> Tensor:
    for step in range(STEPS):
        x = Step().run(denoise(x, step), x)
    return x


@dataclass(frozen=True)
class ByChance(Policy):
    """Plans that differ from sample to sample."""

    observes = "changes"

    def decide(self, trace: Trace) -> bool:
        return trace.step < 3 or int(trace.changes[-1] * 1e4) % 3 == 0


@dataclass(frozen=True)
class Periodic(Policy):
    """Every third step is computed, beginning with another one for each sample."""

    offsets: tuple[int, ...]
    asked: list[int] = field(default_factory=list)

    def decide(self, trace: Trace) -> bool:
        self.asked.append(0)
        sample = (len(self.asked) - 1) % len(self.offsets)
        return trace.step % 3 == self.offsets[sample]


POLICIES: dict[str, Policy] = {
    "ours": ErrorControlled(0.03),
    "paper": ThirdOrder(0.05),
    "chance": ByChance(),
}
policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def test_tolerance_zero_is_the_plain_run_to_the_bit() -> None:
    trajectory = Trajectory(ErrorControlled(tolerance=0), SCHEDULE, 3)
    assert torch.equal(run(trajectory, start(3)), plain(start(3)))
    assert trajectory.mask == [[True] * STEPS] * 3


@policies
def test_every_sample_is_as_if_alone(policy: Policy) -> None:
    trajectory = Trajectory(policy, SCHEDULE, 4)
    together = run(trajectory, start(4))
    assert not all(map(all, trajectory.mask))
    for b in range(4):
        alone = Trajectory(policy, SCHEDULE, 1)
        result = run(alone, start(4)[b : b + 1])
        assert alone.mask == [trajectory.mask[b]]
        torch.testing.assert_close(together[b : b + 1], result, rtol=1e-5, atol=1e-5)


@policies
def test_a_batch_decided_as_a_whole_has_one_plan(policy: Policy) -> None:
    trajectory = Trajectory(policy, SCHEDULE, 1)
    assert run(trajectory, start(4)).shape == (4, 5)
    (mask,) = trajectory.mask
    assert len(mask) == STEPS
    assert not all(mask)


@given(st.lists(st.booleans(), min_size=STEPS - 1, max_size=STEPS - 1))
def test_the_mask_is_the_plan(rest: list[bool]) -> None:
    mask = [True, *rest]
    trajectory = Trajectory(FixedSchedule(mask), SCHEDULE, 2)
    assert run(trajectory, start(2)).isfinite().all()  # what is not computed is not looked at
    assert trajectory.mask == [mask] * 2


@pytest.mark.parametrize("skipped", [{5}, {4, 5, 9}, {3, 5, 7, 9, 11}], ids=str)
def test_forecasts_are_closer_than_reuse_and_backfill_closer_than_forecasts(
    skipped: set[int],
) -> None:
    mask = [i not in skipped for i in range(STEPS)]
    distances = []
    for extrapolates, backfill in ((False, False), (True, False), (True, True)):
        policy = FixedSchedule(mask, extrapolates=extrapolates, backfill=backfill)
        result = run(Trajectory(policy, SCHEDULE, 4), start(4))
        distances.append((result - plain(start(4))).norm().item())
    assert distances[0] > distances[1] > distances[2] > 0


def test_the_first_step_is_computed_whatever_the_policy_says() -> None:
    class Never(Policy):
        def decide(self, trace: Trace) -> bool:
            return False

    trajectory = Trajectory(Never(), SCHEDULE, 2)
    assert run(trajectory, start(2)).isfinite().all()
    assert trajectory.mask == [[True] + [False] * (STEPS - 1)] * 2


def test_a_loop_that_goes_on_beyond_its_schedule_is_computed() -> None:
    trajectory = Trajectory(ErrorControlled(1e9), NoiseSchedule.uniform(4), 1)
    x = start(1)
    for step in range(7):
        plan = trajectory.open()
        if step >= 4:
            assert plan == [True]
        output = denoise(x, step)
        after = trajectory.advance("only", output, x, Step())
        if step >= 4:
            assert torch.equal(after, Step().run(output, x))
        x = after
        trajectory.close()
    assert len(trajectory.mask[0]) == 7


def test_a_plan_can_be_overruled() -> None:
    trajectory = Trajectory(FixedSchedule([True] + [False] * (STEPS - 1)), SCHEDULE, 2)
    x = start(2)
    for step in range(4):
        trajectory.open()
        if step == 2:
            trajectory.compute_all()
        x = trajectory.advance("only", denoise(x, step), x, Step())
        trajectory.close()
    assert trajectory.mask == [[True, False, True, False]] * 2


def test_traces_have_an_entry_for_every_step() -> None:
    seen: list[tuple[int, int, int]] = []

    class Watch(Policy):
        observes = "errors"

        def decide(self, trace: Trace) -> bool:
            seen.append((len(trace.mask), len(trace.errors), len(trace.changes)))
            assert all(
                math.isnan(e) for e, c in zip(trace.errors, trace.mask, strict=True) if not c
            )
            assert trace.is_last == (trace.step == STEPS - 1)
            return trace.step % 3 != 2

    run(Trajectory(Watch(), SCHEDULE, 1), start(1))
    assert seen == [(i, i, i) for i in range(1, STEPS)]


def test_measured_errors_are_relative_to_the_output() -> None:
    """A sudden, exact doubling: the reuse that would have been is off by a half."""

    class Watch(Policy):
        observes, extrapolates, backfill = "errors", False, False
        errors: tuple[float, ...] = ()

        def decide(self, trace: Trace) -> bool:
            self.errors = tuple(trace.errors)
            return True

    policy = Watch()
    trajectory, x = Trajectory(policy, SCHEDULE, 1), start(1)
    for step in range(5):
        trajectory.open()
        trajectory.advance("only", x * (1 if step < 3 else 2), x, Step())
        trajectory.close()
    trajectory.open()
    assert math.isnan(policy.errors[0])
    assert policy.errors[1:] == pytest.approx((0.0, 0.0, 0.5, 0.0))


def test_an_output_that_swings_is_reused_and_not_interpolated() -> None:
    """Outputs that go back on every trend: a skipped step is then a longer step, no more."""
    outputs = [0.0, 1.0, 0.0, None, 1.0, None, -1.0]  # every line is met by less than nothing
    policy = FixedSchedule([each is not None for each in outputs])
    object.__setattr__(policy, "cautious", True)
    trajectory, x = Trajectory(policy, NoiseSchedule.uniform(len(outputs)), 1), torch.zeros(1, 5)
    reused = last = 0.0
    for value in outputs:
        trajectory.open()
        last = last if value is None else value
        x = trajectory.advance("only", torch.full_like(x, last), x, Step())
        trajectory.close()
        reused -= 0.1 * last
    torch.testing.assert_close(x, torch.full_like(x, reused))


def test_changes_are_those_of_the_samples() -> None:
    class Watch(Policy):
        observes = "changes"
        changes: tuple[float, ...] = ()

        def decide(self, trace: Trace) -> bool:
            self.changes = tuple(trace.changes)
            return True

    policy = Watch()
    trajectory, x, recorded = Trajectory(policy, SCHEDULE, 1), start(1), []
    for step in range(STEPS - 1):
        trajectory.open()
        x = trajectory.advance("only", denoise(x, step), x, Step())
        recorded.append(x)
        trajectory.close()
    trajectory.open()
    expected = [(b - a).abs().mean().item() for a, b in pairwise(recorded)]
    assert math.isnan(policy.changes[0])
    assert list(policy.changes[1:]) == pytest.approx(expected, rel=1e-5)


def test_streams_of_one_loop_share_a_plan_and_the_largest_error_counts() -> None:
    """A calm stream and a wild one: the plan is the wild one's."""

    def masks(*streams: str) -> list[list[bool]]:
        trajectory = Trajectory(ErrorControlled(0.02), SCHEDULE, 1)
        x = dict.fromkeys(streams, start(1))
        for step in range(STEPS):
            trajectory.open()
            for name in streams:
                change = 0.3 * math.sin(step**2) if name == "wild" else 0.001 * step
                output = denoise(x[name], 0) * (1 + change)
                x[name] = trajectory.advance(name, output, x[name], Step())
            trajectory.close()
        return trajectory.mask

    assert masks("calm", "wild") == masks("wild", "calm")
    assert sum(masks("calm")[0]) < sum(masks("calm", "wild")[0])


def test_a_stream_may_begin_while_its_loop_skips() -> None:
    """With autoregressive videos, a frame's first step may be any; a batch is still its samples."""

    def run_late(*offsets: int) -> Tensor:
        trajectory = Trajectory(Periodic(offsets), SCHEDULE, len(offsets))
        early, late, x = start(3)[list(offsets)], None, start(3)[list(offsets)]
        for step in range(STEPS):
            rows = torch.tensor(trajectory.open())[:, None]
            early = trajectory.advance("early", denoise(early, step), early, Step())
            if step >= 4:
                new = denoise(x, step)
                late = new if late is None else torch.where(rows, new, late)
                x = trajectory.advance("late", late, x, Step())
            trajectory.close()
        return x

    together = run_late(0, 1, 2)
    for offset in range(3):
        torch.testing.assert_close(together[offset : offset + 1], run_late(offset))


def test_a_policy_for_another_number_of_steps_is_refused() -> None:
    with pytest.raises(StepsError):
        Trajectory(FixedSchedule([True, False]), SCHEDULE, 1)


@given(st.integers(1, 3), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_stays_half(samples: int, dtype: torch.dtype) -> None:
    trajectory: Any = Trajectory(ByChance(), SCHEDULE, samples)
    assert run(trajectory, start(samples).to(dtype)).dtype == dtype
