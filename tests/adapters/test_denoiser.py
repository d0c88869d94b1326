"""Skipping in a loop of one's own, on a denoiser whose every value is known.

The data are Gaussian: x = alpha x0 + sigma noise with x0 ~ N(mean, spread²), so that the best guess
of the noise is an exact formula, and so is the sample that the loop should end at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion import (
    AdaptiveDenoiser,
    ErrorControlled,
    FixedSchedule,
    NoiseSchedule,
    NoReportError,
    Policy,
    PolicyError,
    StepsError,
    ThirdOrder,
    Trace,
)

STEPS = 30


def levels(t: float) -> tuple[float, float]:
    """Signal and noise at time t: from 1, almost pure noise, to 0."""
    angle = 0.5 * math.pi * (0.02 + 0.96 * t)
    return math.cos(angle), math.sin(angle)


class Gaussian:
    """The exact denoiser; it counts the rows it is called on."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, t: float | Tensor, mean: Tensor | float = 0.0) -> Tensor:
        self.rows.append(len(x))
        time = float(torch.as_tensor(t).flatten()[0])
        alpha, sigma = levels(time)
        spread = torch.linspace(0.2, 1.5, x.shape[1])
        return sigma * (x - alpha * mean) / (alpha**2 * spread**2 + sigma**2)


TIMES = [1 - i / STEPS for i in range(STEPS)]
SCHEDULE = NoiseSchedule.from_levels(
    *zip(*(levels(t) for t in [*TIMES, 0.0]), strict=True), "epsilon"
)


def start(samples: int) -> Tensor:
    rows = [
        torch.randn(1, 6, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
        for b in range(samples)
    ]
    # samples that end at different places: some move evenly, others do not
    return torch.cat(rows) * torch.logspace(0, 1, samples, dtype=torch.float64)[:, None]


def ddim(noise: Tensor, t: float, x: Tensor) -> Tensor:
    """From one time to the next."""
    (alpha, sigma), (alpha_next, sigma_next) = levels(t), levels(t - 1 / STEPS)
    return alpha_next / alpha * (x - sigma * noise) + sigma_next * noise


def sample(
    denoise: Any,
    x: Tensor,
    guidance: float | None = None,
    step: Callable[[Tensor, float, Tensor], Tensor] = ddim,
    **conditioning: Any,
) -> Tensor:
    """A loop as a user would write it."""
    for t in TIMES:
        noise = denoise(x, t, **conditioning)
        if guidance is not None:
            noise = noise + guidance * (noise - denoise(x, t, mean=0.5))
        x = step(noise, t, x)
    return x


def adaptive(policy: Policy | None = None, step: Any = None) -> tuple[AdaptiveDenoiser, Gaussian]:
    model = Gaussian()
    denoise = AdaptiveDenoiser(model, policy, step)
    denoise.start(TIMES, SCHEDULE)
    return denoise, model


@dataclass(frozen=True)
class ByChance(Policy):
    """Plans that differ from sample to sample, and depend on nothing but the sample.

    No run of skips is longer than a tape, which samples share.
    """

    observes = "changes"

    def decide(self, trace: Trace) -> bool:
        return trace.step < 3 or trace.skips == 8 or int(trace.changes[-1] * 1e4) % 3 == 0


def psnr(result: Tensor, expected: Tensor) -> float:
    return -10 * math.log10((result - expected).square().mean() / expected.square().mean())


@pytest.mark.parametrize("guidance", [None, 2.0], ids=["unguided", "guided"])
def test_tolerance_zero_is_the_plain_loop_to_the_bit(guidance: float | None) -> None:
    denoise, model = adaptive(ErrorControlled(tolerance=0))
    expected = sample(Gaussian(), start(3), guidance)
    assert torch.equal(sample(denoise, start(3), guidance), expected)
    assert model.rows == [3] * STEPS * (1 if guidance is None else 2)


def test_skipping_is_close() -> None:
    x = start(4)
    denoise, _ = adaptive(ErrorControlled(tolerance=0.01))
    assert psnr(sample(denoise, x), sample(Gaussian(), x)) > 20
    assert denoise.report().nfe_reduction > 1.3


@pytest.mark.parametrize("every", [2, 3])
def test_forecasts_are_closer_than_reuse(every: int) -> None:
    x, results = start(4), []
    for extrapolates in (False, True):
        mask = [i < 3 or i % every == 0 for i in range(STEPS)]
        denoise, _ = adaptive(FixedSchedule(mask, extrapolates=extrapolates))
        results.append(psnr(sample(denoise, x), sample(Gaussian(), x)))
    assert results[0] + 3 < results[1]


def test_a_smaller_tolerance_is_closer_in_the_end() -> None:
    x = start(4)
    expected = sample(Gaussian(), x)
    results = []
    for tolerance in (0.3, 1e-3):
        denoise, _ = adaptive(ErrorControlled(tolerance=tolerance))
        results.append((psnr(sample(denoise, x), expected), sum(denoise.report().nfe)))
    assert results[0][0] < results[1][0]
    assert results[0][1] < results[1][1]


@pytest.mark.parametrize(
    "policy",
    [ErrorControlled(0.005), ThirdOrder(0.05), ByChance()],
    ids=["ours", "paper", "chance"],
)
@pytest.mark.parametrize("guidance", [None, 2.0], ids=["unguided", "guided"])
def test_every_row_has_the_plan_and_the_result_that_it_has_alone(
    policy: Policy, guidance: float | None
) -> None:
    x, mean = start(4), torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    denoise, model = adaptive(policy)
    together = sample(denoise, x, guidance, mean=mean)
    masks = denoise.report().mask
    assert len({tuple(mask) for mask in masks}) > 1
    calls = 1 if guidance is None else 2
    assert sum(model.rows) == calls * sum(denoise.report().nfe)
    for b in range(4):
        rows = slice(b, b + 1)
        alone, model = adaptive(policy)
        result = sample(alone, x[rows], guidance, mean=mean[rows])
        assert alone.report().mask == [masks[b]]
        torch.testing.assert_close(together[rows], result, rtol=1e-4, atol=1e-4)


def test_rows_of_conditioning_and_of_the_timestep_go_with_their_sample() -> None:
    seen: list[tuple[Any, ...]] = []

    def model(x: Tensor, t: Tensor, text: Tensor, table: Tensor, scale: float) -> Tensor:
        assert len(x) == len(t) == len(text)
        assert table.shape == (7, 2)
        assert scale == 3.0
        seen.append((x[:, 0].tolist(), text.tolist()))
        return x * scale

    denoise = AdaptiveDenoiser(model, ByChance())
    denoise.start(TIMES)
    ids = torch.arange(3.0)
    x = start(3)
    x[:, 0] = ids
    for i, t in enumerate(TIMES):
        change = torch.randn(3, 5, generator=torch.Generator().manual_seed(i))
        x = torch.cat([x[:, :1], x[:, 1:] + change], dim=1)
        denoise(x, torch.full((3,), t), text=ids, table=torch.ones(7, 2), scale=3.0)
    assert any(len(rows) < 3 for rows, _ in seen)
    assert all(rows == text for rows, text in seen)


@pytest.mark.parametrize("shape", [(5,), (3,), (3, 2), (6, 2)], ids=str)
def test_a_list_with_an_entry_for_every_row_keeps_the_batch_whole(shape: tuple[int, ...]) -> None:
    """Even if its entries have as many rows as the sample: their rows may be tokens."""

    def model(x: Tensor, t: float, texts: list[Tensor]) -> Tensor:
        assert len(x) == len(texts)
        assert all(text.shape == shape for text in texts)
        return x

    denoise = AdaptiveDenoiser(model, ByChance())
    denoise.start(TIMES, SCHEDULE)
    sample(denoise, start(3), texts=[torch.ones(shape) for _ in range(3)])
    assert len(denoise.report().mask) == 1
    assert any("as a whole" in note for note in denoise.report().notes)


def test_rows_of_maps_of_several_sizes_go_with_their_sample() -> None:
    def model(x: Tensor, t: float, maps: list[Tensor]) -> Tensor:
        assert all(len(each) == len(x) for each in maps)
        return x

    denoise = AdaptiveDenoiser(model, ByChance())
    denoise.start(TIMES, SCHEDULE)
    sample(denoise, start(3), maps=[torch.ones(3, size) for size in (2, 4, 8)])
    assert len(denoise.report().mask) == 3


@given(st.lists(st.booleans(), min_size=STEPS - 1, max_size=STEPS - 1))
def test_a_fixed_schedule_is_obeyed(rest: list[bool]) -> None:
    mask = [True, *rest]
    denoise, model = adaptive(FixedSchedule(mask))
    sample(denoise, start(2), guidance=1.0)
    assert model.rows == [2] * 2 * sum(mask)
    assert denoise.report().mask == [mask] * 2


def test_a_call_that_comes_later_than_others_is_computed() -> None:
    """Guidance within an interval: a second call from some step on, whatever the plan says."""
    mask = [i % 2 == 0 for i in range(STEPS)]
    denoise, _ = adaptive(FixedSchedule(mask))
    x = start(2)
    for i, t in enumerate(TIMES):
        denoise(x, t)
        if 5 <= i < 20:
            assert denoise(x, t, mean=1.0).isfinite().all()
    assert denoise.report().steps == STEPS


def test_outputs_may_be_changed_in_place() -> None:
    """They are the user's: what is remembered is not what is handed out."""

    def loop(denoise: Any) -> Tensor:
        x = start(2)
        for t in TIMES:
            output = denoise(x, t)
            x = x - 0.02 * output
            output.fill_(math.nan)
        return x

    mask = [i < 3 or i % 3 == 0 for i in range(STEPS)]
    for extrapolates in (True, False):
        denoise, _ = adaptive(FixedSchedule(mask, extrapolates=extrapolates))
        assert loop(denoise).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_timesteps_may_be_tensors_of_any_precision(dtype: torch.dtype) -> None:
    times = torch.linspace(1, 0.03, 10)
    for given_times, passed in (
        (times.to(dtype), times.to(dtype)),
        (times.to(dtype).tolist(), times.to(dtype)),
        (times.double().tolist(), times),
        (
            [round(t, 2) for t in times.tolist()],
            [torch.tensor(round(t, 2)) for t in times.tolist()],
        ),
    ):
        denoise = AdaptiveDenoiser(Gaussian())
        denoise.start(given_times)
        x = start(2)
        for t in passed:
            x = x - 0.1 * denoise(x, t)
        assert denoise.report().steps == 10


def test_without_a_schedule_the_timestep_is_the_coordinate() -> None:
    """Outputs linear in t are forecast exactly, however uneven the steps."""
    times = [1000.0, 900.0, 870.0, 600.0, 590.0, 300.0, 20.0]
    denoise = AdaptiveDenoiser(
        lambda x, t: x * 0 + float(t), FixedSchedule([True, True, False, False, True, False, True])
    )
    denoise.start(times)
    for t in times:
        assert denoise(torch.ones(1, 2), t)[0, 0].item() == pytest.approx(t, rel=1e-4)


def test_a_new_start_forgets_the_loop_before() -> None:
    denoise, _ = adaptive(ErrorControlled(0.05))
    first = sample(denoise, start(2))
    masks = denoise.report().mask
    for samples in (2, 3, 1):
        denoise.start(TIMES, SCHEDULE)
        result = sample(denoise, start(2)[:1].expand(samples, -1))
        assert len(denoise.report().mask) == samples
        assert result.shape[0] == samples
    denoise.start(TIMES, SCHEDULE)
    assert torch.equal(sample(denoise, start(2)), first)
    assert denoise.report().mask == masks


def test_a_report_may_be_had_on_the_way() -> None:
    expected, expected_masks = None, None
    for curious in (False, True):
        denoise, _ = adaptive(ErrorControlled(0.05))
        x = start(2)
        for i, t in enumerate(TIMES):
            x = x - 0.02 * denoise(x, t)
            if curious:
                assert denoise.report().steps == i + 1
        masks = denoise.report().mask
        assert expected is None or torch.equal(x, expected)
        assert expected_masks is None or masks == expected_masks
        expected, expected_masks = x, masks
    report = denoise.report()
    assert report.policy == ErrorControlled(0.05)
    assert report.seconds > 0
    assert report.notes == []


def test_an_error_in_the_denoiser_is_the_users_and_the_step_can_be_tried_again() -> None:
    model = Gaussian()
    fails = True

    def moody(x: Tensor, t: float) -> Tensor:
        if fails and t == TIMES[6]:
            raise RuntimeError("out of memory")
        return model(x, t)

    denoise = AdaptiveDenoiser(moody, ErrorControlled(tolerance=0))
    denoise.start(TIMES, SCHEDULE)
    x = start(2)
    for t in TIMES:
        try:
            output = denoise(x, t)
        except RuntimeError:
            fails = False
            output = denoise(x, t)
        x = x - 0.02 * output
    assert denoise.report().mask == [[True] * STEPS] * 2


# With the loop's own step -------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [None, 2.0], ids=["unguided", "guided"])
def test_with_a_step_tolerance_zero_is_the_plain_loop_to_the_bit(guidance: float | None) -> None:
    denoise, model = adaptive(ErrorControlled(tolerance=0), ddim)
    expected = sample(Gaussian(), start(3), guidance)
    assert torch.equal(sample(denoise, start(3), guidance, denoise.step), expected)
    assert model.rows == [3] * STEPS * (1 if guidance is None else 2)


@given(st.lists(st.booleans(), min_size=STEPS - 1, max_size=STEPS - 1), st.booleans())
def test_without_backfill_a_step_changes_nothing(rest: list[bool], extrapolates: bool) -> None:
    policy = FixedSchedule([True, *rest], extrapolates=extrapolates, backfill=False)
    plain, _ = adaptive(policy)
    stepped, _ = adaptive(policy, ddim)
    expected = sample(plain, start(2))
    assert torch.equal(sample(stepped, start(2), None, stepped.step), expected)


@given(st.lists(st.booleans(), min_size=STEPS - 1, max_size=STEPS - 1))
def test_steps_taken_again_with_the_same_outputs_give_the_same_sample(rest: list[bool]) -> None:
    """Outputs of zero are forecast and interpolated exactly, so a backfill corrects nothing."""

    def curved(output: Tensor, t: float, x: Tensor) -> Tensor:
        return torch.sin(3 * x + t) + output

    def zero(x: Tensor, t: float) -> Tensor:
        return torch.zeros_like(x)

    denoise = AdaptiveDenoiser(zero, FixedSchedule([True, *rest]), curved)
    denoise.start(TIMES, SCHEDULE)
    x = start(2).float()
    assert torch.equal(sample(denoise, x, None, denoise.step), sample(zero, x, None, curved))


@pytest.mark.parametrize("guidance", [None, 2.0], ids=["unguided", "guided"])
@pytest.mark.parametrize("every", [2, 3, 4])
def test_backfill_is_closer(every: int, guidance: float | None) -> None:
    x = start(4)
    expected, results = sample(Gaussian(), x, guidance), []
    mask = [i < 3 or i % every == 0 or i == STEPS - 1 for i in range(STEPS)]
    for step in (None, ddim):
        denoise, model = adaptive(FixedSchedule(mask), step)
        result = sample(denoise, x, guidance, denoise.step if step else ddim)
        assert len(model.rows) == sum(mask) * (1 if guidance is None else 2)
        results.append(psnr(result, expected))
    assert results[0] + 5 < results[1]


@pytest.mark.parametrize(
    "policy",
    [ErrorControlled(0.005), ThirdOrder(0.05), ByChance()],
    ids=["ours", "paper", "chance"],
)
@pytest.mark.parametrize("guidance", [None, 2.0], ids=["unguided", "guided"])
def test_with_a_step_every_row_has_the_plan_and_the_result_that_it_has_alone(
    policy: Policy, guidance: float | None
) -> None:
    x, mean = start(4), torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    denoise, _ = adaptive(policy, ddim)
    together = sample(denoise, x, guidance, denoise.step, mean=mean)
    masks = denoise.report().mask
    assert len({tuple(mask) for mask in masks}) > 1
    for b in range(4):
        rows = slice(b, b + 1)
        alone, _ = adaptive(policy, ddim)
        result = sample(alone, x[rows], guidance, alone.step, mean=mean[rows])
        assert alone.report().mask == [masks[b]]
        torch.testing.assert_close(together[rows], result, rtol=1e-4, atol=1e-4)


def test_with_a_step_outputs_and_samples_may_be_changed_in_place() -> None:
    """Nothing that is kept is what is handed out, and what the loop does to a sample is kept."""

    def loop(in_place: bool) -> Tensor:
        denoise, _ = adaptive(FixedSchedule([i % 3 == 0 for i in range(STEPS)]), ddim)
        x = start(2)
        for t in TIMES:
            output = denoise(x, t)
            following = denoise.step(output, t, x)
            if in_place:
                output.fill_(math.nan)
                x.fill_(math.nan)
                x = following.mul_(0.99)
            else:
                x = following * 0.99
        return x

    torch.testing.assert_close(loop(in_place=True), loop(in_place=False))


def test_a_step_that_was_not_given_can_not_be_taken() -> None:
    denoise, _ = adaptive()
    output = denoise(start(1), TIMES[0])
    with pytest.raises(StepsError, match="no step is known"):
        denoise.step(output, TIMES[0], start(1))


def test_a_step_that_was_given_must_be_taken_once_and_in_order() -> None:
    denoise, model = adaptive(step=ddim)
    x = start(1)
    with pytest.raises(StepsError, match="call the denoiser before step"):
        denoise.step(x, TIMES[0], x)
    output = denoise(x, TIMES[0])
    with pytest.raises(StepsError, match="the loop took a step by itself"):
        denoise(ddim(output, TIMES[0], x), TIMES[1])
    with pytest.raises(StepsError, match="call the denoiser before step"):
        denoise.step(output, TIMES[1], x)
    following = denoise.step(output, TIMES[0], x)
    with pytest.raises(StepsError, match="call the denoiser before step"):
        denoise.step(output, TIMES[0], x)
    denoise(following, TIMES[1])
    assert model.rows == [1, 1]


# Misuse -------------------------------------------------------------------------------------------


def test_a_loop_must_be_started() -> None:
    with pytest.raises(StepsError, match=r"call start\(timesteps\) before every loop"):
        AdaptiveDenoiser(Gaussian())(start(1), 1.0)


def test_there_is_no_report_before_a_step() -> None:
    denoise = AdaptiveDenoiser(Gaussian())
    with pytest.raises(NoReportError, match=r"call start\(timesteps\), then loop"):
        denoise.report()
    denoise.start(TIMES)
    with pytest.raises(NoReportError):
        denoise.report()


def test_timesteps_come_in_order() -> None:
    denoise, model = adaptive()
    with pytest.raises(StepsError, match="not the loop's next timestep"):
        denoise(start(1), TIMES[1])
    denoise(start(1), TIMES[0])
    for wrong in (TIMES[2], 0.12345, math.nan):
        with pytest.raises(StepsError, match="not the loop's next timestep"):
            denoise(start(1), wrong)
    denoise(start(1), TIMES[1])
    with pytest.raises(StepsError):
        denoise(start(1), TIMES[0])  # gone by
    assert model.rows == [1, 1]
    assert denoise.report().steps == 2


def test_a_finished_loop_takes_no_more_steps() -> None:
    denoise, _ = adaptive()
    sample(denoise, start(1))
    with pytest.raises(StepsError, match=r"call start\(timesteps\)"):
        denoise(start(1), TIMES[0])


@pytest.mark.parametrize("empty", [[], (), torch.empty(0)], ids=["list", "tuple", "tensor"])
def test_a_loop_has_steps(empty: Any) -> None:
    with pytest.raises(StepsError, match="timesteps is empty"):
        AdaptiveDenoiser(Gaussian()).start(empty)


def test_schedule_and_policy_must_be_for_as_many_steps() -> None:
    denoise = AdaptiveDenoiser(Gaussian())
    with pytest.raises(StepsError, match="schedule has 30 steps and the loop 29"):
        denoise.start(TIMES[1:], SCHEDULE)
    denoise = AdaptiveDenoiser(Gaussian(), FixedSchedule([True, False]))
    with pytest.raises(StepsError, match="mask has 2 steps and the generation 30"):
        denoise.start(TIMES)


def test_a_start_that_fails_changes_nothing() -> None:
    denoise, _ = adaptive(ErrorControlled(0.05))
    x, times = start(1), list(TIMES)
    with pytest.raises(StepsError):
        denoise.start(TIMES[1:], SCHEDULE)
    with pytest.raises(StepsError):
        denoise.start(TIMES, NoiseSchedule.uniform(3))
    expected, _ = adaptive(ErrorControlled(0.05))
    assert times == TIMES
    assert torch.equal(sample(denoise, x), sample(expected, x))


@pytest.mark.parametrize(
    "policy", [0.01, "ours", ErrorControlled, object()], ids=lambda each: type(each).__name__
)
def test_a_policy_is_a_policy(policy: Any) -> None:
    with pytest.raises(PolicyError, match="must be a Policy"):
        AdaptiveDenoiser(Gaussian(), policy)


# Half precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_step", [False, True], ids=["step unknown", "step known"])
@pytest.mark.parametrize("calls", [1, 2], ids=["one call", "two calls"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("started", ["exact", "rounded"])
def test_steps_may_have_one_value_in_half_precision(
    started: str, dtype: torch.dtype, calls: int, has_step: bool
) -> None:
    """The sample tells them apart, or the step that was taken between them."""
    exact = [1000 - i / 2 for i in range(20)]
    rounded = torch.tensor(exact).to(dtype)
    assert len(set(rounded.tolist())) < len(exact) or dtype == torch.float16
    mask = [i % 3 != 2 for i in range(20)]

    def step(output: Tensor, t: Any, x: Tensor) -> Tensor:
        return x - 0.1 * output

    rows: list[float] = []

    def model(x: Tensor, t: Any) -> Tensor:
        rows.append(float(t))
        return x.tanh()

    denoise = AdaptiveDenoiser(model, FixedSchedule(mask), step if has_step else None)
    denoise.start(exact if started == "exact" else rounded)
    x = start(1).to(dtype)
    for t in rounded:
        output = sum(denoise(x, t) for _ in range(calls)) / calls
        x = denoise.step(output, t, x) if has_step else step(output, t, x)
    assert denoise.report().mask == [mask]
    assert len(rows) == calls * sum(mask)
