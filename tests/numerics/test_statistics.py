"""Costs of skips, and one loop's statistics on another."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_statistics import statistics_on

from adaptive_diffusion import NoiseSchedule
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.planning import Plan
from adaptive_diffusion.numerics.statistics import Statistics, kernel_of

STEPS = 20
ALPHAS = [(k + 0.5) / 25 for k in range(26)]
LEVELS = NoiseSchedule.from_levels(
    ALPHAS, [(1 - a * a) ** 0.5 for a in ALPHAS[:-1]] + [0], "epsilon"
)
UNIFORM = NoiseSchedule.uniform(STEPS)

plans = st.sets(st.integers(1, STEPS - 2)).map(lambda steps: (0, *sorted(steps), STEPS - 1))


def levels(steps: int) -> NoiseSchedule:
    """From the same noise to the same, in so many steps."""
    alphas = [0.1 + 0.85 * k / steps for k in range(steps + 1)]
    return NoiseSchedule.from_levels(alphas, [(1 - a * a) ** 0.5 for a in alphas], "epsilon")


# Costs -----------------------------------------------------------------------------------------


@given(plans, st.floats(1e-6, 1), st.integers(0, 99))
def test_no_plan_costs_less_than_nothing(plan: Plan, nugget: float, seed: int) -> None:
    """Whatever the effects and responses, of either sign."""
    chance = random.Random(seed)
    values = {
        name: tuple(chance.uniform(-1, 1) for _ in range(STEPS))
        for name in ("moves", "effects", "responses")
    }
    statistics = statistics_on(UNIFORM, nugget=nugget, **values)
    assert statistics.plan_cost(plan) >= -1e-12
    for k in range(1, len(plan)):
        assert statistics.run_cost(plan[max(0, k - 4) : k][::-1], plan[k]) >= -1e-12


def test_computing_all_costs_nothing_and_skipping_something() -> None:
    statistics = statistics_on(UNIFORM)
    assert statistics.plan_cost(tuple(range(STEPS))) == 0
    assert statistics.plan_cost((0, *range(2, STEPS))) > 0


def test_fewer_calls_cost_more() -> None:
    statistics = statistics_on(UNIFORM)
    every = [tuple(sorted({*range(0, STEPS, n), STEPS - 1})) for n in (1, 2, 3, 5)]
    costs = [statistics.plan_cost(plan) for plan in every]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_errors_count_by_their_square() -> None:
    one = statistics_on(UNIFORM)
    twice = replace(one, effects=tuple(2 * effect for effect in one.effects))
    plan = (0, 3, 6, 12, STEPS - 1)
    assert twice.plan_cost(plan) == pytest.approx(4 * one.plan_cost(plan))


def test_what_hardly_changes_is_skipped_for_less() -> None:
    plan = (0, 3, 6, 12, STEPS - 1)
    calm, lively = (statistics_on(UNIFORM, length) for length in (1.0, 0.1))
    assert calm.plan_cost(plan) < lively.plan_cost(plan)


# Weights ---------------------------------------------------------------------------------------


def test_weights_of_a_node_itself_are_one_and_zeros() -> None:
    weights = statistics_on(UNIFORM, nugget=1e-10).weights([7, 5, 4], 5)
    assert weights == pytest.approx([0, 1, 0], abs=1e-3)


def test_forecasts_of_a_smooth_process_are_close() -> None:
    """Of all that the kernel allows, on average: the error is small beside the output."""
    statistics = statistics_on(UNIFORM, nugget=1e-8)
    error = torch.zeros(STEPS, dtype=torch.float64)
    error[[5, 4, 3, 2]] = -torch.tensor(statistics.weights([5, 4, 3, 2], 6), dtype=torch.float64)
    error[6] = 1
    assert error @ statistics.kernel @ error < 1e-4 * statistics.kernel[6, 6]


# Kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (1, 4, 5, 5), (3 * (1 << 17) + 5,)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_kernel_is_the_mean_of_products(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Also of outputs that are multiplied in several parts."""
    outputs = [torch.randn(shape, generator=torch.manual_seed(k)).to(dtype) for k in range(5)]
    kernel = kernel_of(outputs)
    for i, one in enumerate(outputs):
        for j, other in enumerate(outputs):
            expected = (one.double() * other.double()).mean()
            torch.testing.assert_close(kernel[i, j], expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(kernel, kernel.T)


# Other loops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [UNIFORM, LEVELS, levels(30)], ids=["uniform", "cut", "vp"])
def test_on_the_same_loop_they_are_the_same(schedule: NoiseSchedule) -> None:
    statistics = statistics_on(schedule)
    assert statistics.on(schedule) is statistics
    assert statistics.distance(schedule) == 0


def test_a_loop_whose_last_step_was_left_out_is_the_same_loop() -> None:
    statistics = statistics_on(levels(30).head(29))
    assert statistics.on(levels(30)) is statistics


@pytest.mark.parametrize("kind", [NoiseSchedule.uniform, levels], ids=["uniform", "vp"])
@pytest.mark.parametrize(("measured", "steps"), [(50, 28), (28, 50), (50, 51), (50, 20), (20, 26)])
def test_on_other_steps_they_are_much_what_would_be_measured_there(
    kind: object, measured: int, steps: int
) -> None:
    there, here = kind(steps), kind(measured)  # type: ignore[operator]
    found, expected = statistics_on(here).on(there), statistics_on(there)
    assert found.coordinates == there.coordinates
    torch.testing.assert_close(found.kernel, expected.kernel, rtol=0.05, atol=0.02)
    torch.testing.assert_close(found.kernel, found.kernel.T)
    assert torch.linalg.eigvalsh(found.kernel).min() > -1e-9
    for name in ("moves", "effects", "responses", "deviations"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=0.1, abs=0.03)


def test_in_another_scale_outputs_answer_less_and_steps_move_more() -> None:
    """Of the same levels, once scaled to one variance and once with the noise added."""
    sigmas = [10 * (1 - k / STEPS) ** 2 + 0.02 for k in range(STEPS + 1)]
    scales = [math.hypot(1.0, sigma) for sigma in sigmas]
    scaled = NoiseSchedule.from_levels(
        [1 / each for each in scales],
        [sigma / each for sigma, each in zip(sigmas, scales, strict=True)],
        "epsilon",
    )
    added = NoiseSchedule.from_levels([1.0] * (STEPS + 1), sigmas, "epsilon")
    measured = replace(statistics_on(scaled), scales=scaled.scales)
    found = measured.on(added)
    for k, scale in enumerate(scales[:-1]):
        assert found.responses[k] == pytest.approx(measured.responses[k] / scale)
        assert found.deviations[k] == pytest.approx(measured.deviations[k] / scale)
        assert found.moves[k] == pytest.approx(measured.moves[k] * scale)
    back = found.on(scaled)
    assert back.responses == pytest.approx(measured.responses)
    assert back.moves == pytest.approx(measured.moves)


@given(st.integers(0, 99), st.booleans())
def test_an_error_counts_at_least_by_what_its_loop_makes_of_it(seed: int, cut: bool) -> None:
    noise = torch.Generator().manual_seed(seed)
    matrix = torch.randn(STEPS + 1, STEPS, 1, generator=noise, dtype=torch.float64)
    response = LinearResponse(matrix * torch.ones(STEPS + 1, STEPS).tril(-1)[:, :, None] / STEPS)
    there = replace(levels(STEPS), response=response)
    measured = statistics_on(levels(30))
    plain = measured.on(levels(STEPS))
    found = measured.on(there.head(STEPS - 1) if cut else there)
    part = response.part(slice(len(found)))
    answers = torch.tensor(plain.responses[: len(found)], dtype=torch.float64)
    made = part.answered(answers).matrix[-1].abs().flatten()
    result = plain.effects[len(found) - 1] / plain.gains[len(found) - 1]
    for effect, before, after in zip(found.effects, plain.effects, made.tolist(), strict=False):
        assert effect == pytest.approx(max(before, result * after))
    assert replace(found, effects=plain.effects[: len(found)]) == measured.on(
        replace(there, response=None).head(len(found))
    )


def test_an_image_that_starts_in_the_middle_has_the_end_of_the_loop() -> None:
    whole, part = levels(40), levels(40).tail(25)
    found, expected = statistics_on(whole).on(part), statistics_on(whole)
    torch.testing.assert_close(found.kernel, expected.kernel[25:, 25:])
    assert found.effects == pytest.approx(expected.effects[25:])


def test_beyond_what_was_measured_it_is_as_at_the_end() -> None:
    part, whole = levels(40).tail(10), levels(40)
    found = statistics_on(part).on(whole)
    assert found.kernel.isfinite().all()
    torch.testing.assert_close(found.kernel[0], found.kernel[9])


def test_the_nearer_loop_is_the_less_distant() -> None:
    statistics = statistics_on(levels(40))
    assert statistics.distance(levels(36)) < statistics.distance(levels(20))
    assert statistics.distance(levels(40).tail(2)) < statistics.distance(levels(40).tail(20))


# Equality --------------------------------------------------------------------------------------


def test_equal_numbers_are_equal_statistics() -> None:
    one, other = statistics_on(UNIFORM), statistics_on(UNIFORM)
    assert one == other
    assert hash(one) == hash(other)
    assert len(one) == STEPS
    assert one != replace(other, nugget=0.5)
    assert one != replace(other, kernel=other.kernel + 1)
    assert one != replace(other, moves=(0.0,) * STEPS)
    assert one != "statistics"
    assert isinstance(one, Statistics)
