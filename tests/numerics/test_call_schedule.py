"""Levels of calls, as a schedule: the same as that of a loop of one's own where that is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.numerics.call_schedule import (
    amplification,
    call_schedule,
    exchange_of,
)
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS, NoiseSchedule


def none_held(calls: int, outputs: int = 1) -> LinearResponse:
    return LinearResponse(torch.zeros(calls + 1, calls, outputs, dtype=torch.float64))


def levels_of(kind: str, steps: int) -> list[tuple[float, float]]:
    times = [0.98 - 0.95 * i / steps for i in range(steps)]
    if kind == "flow_prediction":
        return [(1 - t, t) for t in times]
    if kind == "epsilon":
        return [(1.0, 80 * t**3 + 0.01) for t in times]
    return [(math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)) for t in times]


@given(st.sampled_from(["epsilon", "v_prediction", "flow_prediction"]), st.integers(2, 60))
def test_one_call_per_level_is_as_from_the_levels(kind: str, steps: int) -> None:
    levels = levels_of(kind, steps)
    expected = NoiseSchedule.from_levels(*zip(*levels, (1.0, 0.0), strict=True), kind)
    found = call_schedule(levels, kind, none_held(steps))
    for name in ("coordinates", "gains", "noise"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4)
    for name in ("clean", "velocity"):
        for pair, other in zip(getattr(found, name), getattr(expected, name), strict=True):
            assert pair == pytest.approx(other)


@given(st.lists(st.integers(0, 8), min_size=2, max_size=30))
def test_levels_in_any_order_give_a_schedule(order: list[int]) -> None:
    """Coordinates only rise, and all gains together lead from the first level to the last."""
    levels = [(1.0, 10.0 * 0.5**place) for place in order]
    schedule = call_schedule(levels, "epsilon", none_held(len(order)))
    rises = [b > a for a, b in zip(schedule.coordinates, schedule.coordinates[1:], strict=False)]
    assert all(rises)
    assert all(gain > 0 for gain in schedule.gains)
    assert schedule.clean is not None
    for (a, b), (_, sigma) in zip(schedule.clean, levels, strict=True):
        assert (a, b) == pytest.approx((1.0, -sigma))  # what an output says stays at its own level


def test_two_stages_at_a_level_share_its_gain() -> None:
    """Heun's method: every level but the first is visited twice."""
    twice = [(1.0, s) for s in (8.0, 4.0, 4.0, 2.0, 2.0, 1.0)]
    sigmas = [*(s for _, s in twice), 0.0]
    expected = NoiseSchedule.from_levels([1.0] * 7, sigmas, "epsilon")
    schedule = call_schedule(twice, "epsilon", none_held(6))
    assert schedule.coordinates == pytest.approx(expected.coordinates, rel=1e-6)
    once = call_schedule([(1.0, s) for s in (8.0, 4.0, 2.0, 1.0)], "epsilon", none_held(4))
    assert schedule.gains[1] + schedule.gains[2] == pytest.approx(once.gains[1], rel=0.25)


def test_a_strong_answer_raises_the_gain_and_a_stochastic_one_does_not() -> None:
    levels = levels_of("epsilon", 5)
    plain = call_schedule(levels, "epsilon", none_held(5)).gains
    way = abs(levels[2][1] - levels[3][1])
    for factor, expected in ((1.0, 1.0), (2.0, 1.0), (8.0, 4.0)):
        held = none_held(5)
        held.matrix[-1, 2] = factor * way
        assert call_schedule(levels, "epsilon", held).gains[2] == pytest.approx(expected * plain[2])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
def test_clean_samples_are_exchanged_for_what_the_model_predicts(kind: str) -> None:
    levels = levels_of(kind, 6)
    clean, noise = torch.tensor([0.3, -2.0]), torch.tensor([1.1, 0.4])
    name, exchange = exchange_of(levels, "sample", kind)
    assert name == kind
    for (alpha, sigma), (a, b) in zip(levels, exchange, strict=True):
        value = a * (alpha * clean + sigma * noise) + b * clean
        expected = {
            "epsilon": noise,
            "v_prediction": (alpha * noise - sigma * clean) / math.hypot(alpha, sigma),
            "flow_prediction": noise - clean,
        }[kind]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_what_is_forecast_by_default() -> None:
    assert exchange_of(levels_of("epsilon", 3), "sample")[0] == "epsilon"
    assert exchange_of(levels_of("flow_prediction", 3), "sample")[0] == "flow_prediction"
    assert exchange_of(levels_of("epsilon", 3), "v_prediction") == (
        "v_prediction",
        [(0.0, 1.0)] * 3,
    )


def told(levels: list[tuple[float, float]], kind: str, order: int) -> LinearResponse:
    """The response of a solver of that order (Adams and Bashforth) to outputs of that kind.

    In the coordinates x / alpha and sigma / alpha it goes along the noise: under flow matching, x
    and sigma and the velocity.
    """
    weights = {1: [1.0], 2: [1.5, -0.5]}[order]
    flow = kind == "flow_prediction"
    calls = len(levels)
    matrix, answers = none_held(calls).matrix, torch.zeros(calls, calls, dtype=torch.float64)
    for row in range(calls):
        alpha, sigma = levels[row]
        following, after = levels[row + 1] if row + 1 < calls else (1.0, 0.0)
        scale, next_scale = (1.0, 1.0) if flow else (alpha, following)
        a, b, _ = PREDICTIONS[kind](alpha, sigma)  # the clean sample is A x + B u
        answers[row] = (1 - scale * a) / sigma * matrix[row, :, 0]
        answers[row, row] += -scale * b / sigma
        way = after / next_scale - sigma / scale
        used = list(enumerate(weights[: row + 1]))
        total = sum(weight * answers[row - back] for back, weight in used)
        share = sum(weight for _, weight in used)
        matrix[row + 1, :, 0] = next_scale * (matrix[row, :, 0] / scale + way * total / share)
    return LinearResponse(matrix)


@given(
    st.sampled_from(["epsilon", "v_prediction", "flow_prediction", "sample"]),
    st.sampled_from([1, 2]),
    st.integers(3, 30),
)
def test_a_long_step_amplifies_by_the_sum_of_its_coefficients(
    kind: str, order: int, steps: int
) -> None:
    """3/2 and -1/2 of the way are twice as much as the way; whatever the outputs and the scale."""
    levels = levels_of("sample" if kind == "sample" else kind, steps)
    levels[-1] = (levels[-1][0], levels[-1][1] / 4) if kind == "epsilon" else levels[-1]
    ratios = [s if kind == "flow_prediction" else s / a for a, s in levels]
    longest = any(a > 2 * b for a, b in itertools.pairwise(ratios[1:]))
    found = amplification(levels, kind, told(levels, kind, order))
    if order == 1:
        assert found == pytest.approx(1.0, rel=1e-6)
    elif longest:
        assert found == pytest.approx(2.0, rel=1e-6)


@given(st.integers(2, 12), st.integers(0, 50))
def test_held_values_answer_by_their_own_matrix(calls: int, seed: int) -> None:
    """`e = A x + B u` of two outputs: the same samples, from the ones as from the others."""
    noise = torch.Generator().manual_seed(seed)
    matrix = torch.randn(calls + 1, calls, 2, generator=noise, dtype=torch.float64)
    matrix = matrix * torch.ones(calls + 1, calls).tril(-1)[:, :, None]
    values = torch.randn(calls, 2, generator=noise, dtype=torch.float64)
    terms = [(0.3 * i, 1.0 + 0.1 * i) for i in range(calls)]
    outputs, samples = torch.zeros(calls, 2, dtype=torch.float64), []
    for call in range(calls + 1):
        samples.append((matrix[call] * outputs).sum())
        if call < calls:
            a, b = terms[call]
            outputs[call] = (values[call] - a * samples[-1]) / b
    held = LinearResponse(matrix).held(terms)
    torch.testing.assert_close(torch.stack(samples), (held.matrix * values).sum(dim=(1, 2)))
