"""What holds of the error-controlled policy, whatever its inner formula."""

from __future__ import annotations

import dataclasses
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion import ErrorControlled, NoiseSchedule, PolicyError, Trace

errors = st.one_of(st.floats(0, 10), st.just(0.0), st.just(math.nan), st.just(math.inf))
good_errors = st.floats(1e-6, 1.0)


@st.composite
def schedules(draw: st.DrawFn) -> NoiseSchedule:
    """A loop of 1 to 30 uneven steps."""
    steps = draw(st.integers(1, 30))
    distances = draw(st.lists(st.floats(0.1, 3), min_size=steps, max_size=steps))
    gains = draw(st.lists(st.floats(0.01, 0.5), min_size=steps, max_size=steps))
    coordinates = [sum(distances[:i]) for i in range(steps)]
    noise = tuple(1 - coordinate / sum(distances) for coordinate in coordinates)
    return NoiseSchedule(tuple(coordinates), tuple(gains), noise)


@st.composite
def traces(draw: st.DrawFn, values: st.SearchStrategy[float] = errors) -> Trace:
    """A sample somewhere in its run: anything that a policy may be asked about."""
    schedule = draw(schedules())
    done = draw(st.integers(0, len(schedule) - 1))
    mask = [i < 3 or draw(st.booleans()) for i in range(done)]
    measured = [draw(values) if computed else math.nan for computed in mask]
    return Trace(schedule, draw(st.sampled_from([1, 2])), mask, measured, [math.nan] * done)


def simulate(policy: ErrorControlled, schedule: NoiseSchedule, measured: list[float]) -> list[bool]:
    """The mask of a run in which step i, if computed, has the error `measured[i]`."""
    trace = Trace(schedule)
    for i in range(len(schedule)):
        computed = policy.decide(trace)
        trace.mask.append(computed)
        trace.errors.append(measured[i] if computed and i >= 2 else math.nan)
        trace.changes.append(math.nan)
    return trace.mask


@given(traces())
def test_tolerance_zero_always_computes(trace: Trace) -> None:
    assert ErrorControlled(tolerance=0).decide(trace) is True


@given(traces())
def test_first_three_and_last_are_computed(trace: Trace) -> None:
    if trace.step < 3 or trace.is_last:
        assert ErrorControlled(tolerance=1e9).decide(trace) is True


@given(schedules(), st.integers(1, 8), st.lists(good_errors, min_size=30, max_size=30))
def test_no_run_of_skips_is_longer_than_max_skip(
    schedule: NoiseSchedule, max_skip: int, measured: list[float]
) -> None:
    mask = simulate(ErrorControlled(tolerance=1e9, max_skip=max_skip), schedule, measured)
    runs = "".join("c" if computed else "s" for computed in mask).split("c")
    assert max(map(len, runs)) <= max_skip
    assert mask[:3] == [True] * len(mask[:3])
    assert mask[-1]


@given(schedules(), st.integers(1, 8), st.lists(good_errors, min_size=30, max_size=30))
def test_a_huge_tolerance_skips_all_that_it_may(
    schedule: NoiseSchedule, max_skip: int, measured: list[float]
) -> None:
    mask = simulate(ErrorControlled(tolerance=1e9, max_skip=max_skip), schedule, measured)
    expected = [True] * 3 + ([False] * max_skip + [True]) * len(mask)
    assert mask == [*expected[: len(mask) - 1], True]


@given(st.integers(4, 10), st.floats(1e-4, 1e-2))
def test_a_run_that_goes_twice_as_far_must_promise_half_the_error(half: int, c: float) -> None:
    """The same constant, c: to skip a first step after none was skipped, or after every second."""
    schedule = NoiseSchedule.uniform(4 * half)
    at = schedule.coordinates
    step = abs(at[1] - at[0])

    def loosest_that_computes(mask: list[bool], error: float) -> float:
        errors = [error if computed else math.nan for computed in mask]
        trace = Trace(schedule, 2, mask, errors, [0.1] * len(mask))
        return max(t for k in range(600) if ErrorControlled(t := 1.05**k * 1e-9).decide(trace))

    done = 2 * half + 1
    every = loosest_that_computes([True] * done, 2 * c * step**2)
    second = loosest_that_computes([i == 1 or i % 2 == 0 for i in range(done)], 8 * c * step**2)
    assert every / second == pytest.approx(2 * (1 * 2) / (1 * 3), rel=0.06)


@given(traces(good_errors), st.floats(1e-3, 1), st.floats(0.1, 10))
def test_an_error_counts_by_the_gain_of_its_step_and_by_nothing_else(
    trace: Trace, tolerance: float, factor: float
) -> None:
    """Steps that move the sample so many times as far; the noise that is left does not matter."""
    schedule = trace.schedule
    farther = dataclasses.replace(
        schedule,
        gains=tuple(factor * gain for gain in schedule.gains),
        noise=(0.5,) * len(schedule),
    )
    scaled = ErrorControlled(tolerance * factor).decide(
        dataclasses.replace(trace, schedule=farther)
    )
    # a tolerance at the very edge may round to either side
    near = {ErrorControlled(tolerance * (1 + d)).decide(trace) for d in (-1e-9, 0, 1e-9)}
    assert scaled in near


@given(st.integers(4, 20), st.floats(1e-4, 1e-2), st.floats(1.1, 10))
def test_an_error_that_grows_is_trusted_less_than_one_that_stays(
    done: int, error: float, factor: float
) -> None:
    def loosest_that_computes(errors: list[float]) -> float:
        schedule = NoiseSchedule.uniform(done + 2)
        trace = Trace(schedule, 2, [True] * done, errors, [0.1] * done)
        tolerances = [1.1**k * 1e-8 for k in range(300)]
        return max(each for each in tolerances if ErrorControlled(each).decide(trace))

    grown = [error] * (done - 1) + [factor * error]
    assert loosest_that_computes(grown) > loosest_that_computes([factor * error] * done)


@given(st.integers(4, 20), st.floats(1e-4, 1e-2), st.floats(1.1, 10))
def test_an_error_that_falls_is_believed_by_half(done: int, error: float, factor: float) -> None:
    """Equal steps: the fallen error counts as the geometric mean of it and the one before."""
    trace = Trace(NoiseSchedule.uniform(done + 2), 2, [True] * done, [], [0.1] * done)

    def skips(errors: list[float], tolerance: float) -> bool:
        return not ErrorControlled(tolerance).decide(dataclasses.replace(trace, errors=errors))

    fallen = [factor * error] * (done - 1) + [error]
    between = [math.sqrt(factor) * error] * done
    for tolerance in [1.1**k * 1e-8 for k in range(300)]:
        assert skips(fallen, tolerance) == skips(between, tolerance)


@given(traces(), st.sampled_from([math.nan, math.inf]))
def test_an_error_that_is_not_a_number_means_compute(trace: Trace, error: float) -> None:
    if trace.computed:
        trace.errors[trace.computed[-1]] = error
    assert ErrorControlled(tolerance=1e9).decide(trace) is True


@given(traces(good_errors), st.floats(0, 1), st.floats(0, 1))
def test_what_a_tolerance_skips_a_larger_one_skips_too(trace: Trace, a: float, b: float) -> None:
    small, large = sorted((a, b))
    if not ErrorControlled(tolerance=small).decide(trace):
        assert not ErrorControlled(tolerance=large).decide(trace)


@given(traces(good_errors), st.floats(0, 1), st.floats(0, 1))
def test_what_is_skipped_is_skipped_too_if_all_errors_are_smaller(
    trace: Trace, tolerance: float, factor: float
) -> None:
    policy = ErrorControlled(tolerance=tolerance)
    if not policy.decide(trace):
        trace.errors[:] = [factor * error for error in trace.errors]
        assert not policy.decide(trace)


@given(st.integers(3, 20), good_errors)
def test_errors_within_the_tolerance_are_skipped_and_large_ones_are_not(
    done: int, error: float
) -> None:
    """With equal steps and equal errors all that counts is their ratio to the tolerance."""
    trace = Trace(NoiseSchedule.uniform(done + 2), 2, [True] * done, [error] * done, [0.1] * done)
    assert not ErrorControlled(tolerance=1e3 * error).decide(trace)
    assert ErrorControlled(tolerance=1e-3 * error).decide(trace)


@given(traces())
def test_deciding_changes_nothing_and_is_repeatable(trace: Trace) -> None:
    policy = ErrorControlled(tolerance=0.05)
    before = deepcopy(trace)
    first = policy.decide(trace)
    assert repr(trace) == repr(before)  # not a number is not equal to itself
    assert policy.decide(trace) is first


@pytest.mark.parametrize(
    "tolerance",
    [-0.01, math.nan, math.inf, -math.inf, torch.tensor(0.01), "0.01", True, None, 1j, [0.01]],
    ids=str,
)
def test_bad_tolerance(tolerance: Any) -> None:
    with pytest.raises(PolicyError, match=r"tolerance must be .*such as 0\.01"):
        ErrorControlled(tolerance=tolerance)


@pytest.mark.parametrize("max_skip", [0, -1, 1.5, math.nan, True, "4", None], ids=str)
def test_bad_max_skip(max_skip: Any) -> None:
    with pytest.raises(PolicyError, match="max_skip must be a whole number of at least 1"):
        ErrorControlled(max_skip=max_skip)


def test_settings_can_not_be_changed_behind_the_checks() -> None:
    policy = ErrorControlled()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.tolerance = -1  # type: ignore[misc]
    with pytest.raises(PolicyError):
        dataclasses.replace(policy, tolerance=-1)


def test_a_loop_in_which_next_to_nothing_was_skipped_is_remarked() -> None:
    policy = ErrorControlled(0.01)
    assert "none of 20 steps skipped: a tolerance of 0.01" in policy.remark([True] * 20)
    assert policy.remark([True] * 49 + [False]).startswith("1 of 50 steps skipped")
    assert not policy.remark([True] * 40 + [False] * 3)
    assert not ErrorControlled(0).remark([True] * 20)
    assert policy.remark([True] * 12).startswith("none of 12 steps skipped")
    assert not policy.remark([True] * 11 + [False])
    assert not policy.remark([True] * 4)  # the report says that so short a loop has no skips


LOOP = 40
LEVELS = [1 - i / LOOP for i in range(LOOP + 1)]  # flow matching: half of the loop is mostly noise


def noisy_trace(done: int, clean_error: float) -> Trace:
    """A loop under noise, computed so far, whose forecasts make these errors of a clean sample.

    The error is weighted by the share of noise, as the policy does it.
    """
    schedule = NoiseSchedule.from_levels(
        [1 - level for level in LEVELS], LEVELS, prediction="flow_prediction"
    )
    errors = [clean_error / level**2 for level in LEVELS[:done]]
    return Trace(schedule, 1, [True] * done, errors, [0.1] * done)


def skips(trace: Trace) -> bool:
    return not ErrorControlled(tolerance=1e9).decide(trace)


@given(st.integers(LOOP // 4 + 1, LOOP - 2), st.floats(0, 1))
def test_under_noise_nothing_is_skipped_while_the_clean_sample_is_not_predicted(
    done: int, error: float
) -> None:
    assert skips(noisy_trace(done, error)) is (error <= 0.25)


@given(st.integers(LOOP // 4 + 1, LOOP - 2), st.integers(0, LOOP), st.floats(0.3, 1))
def test_under_noise_a_large_error_counts_for_a_quarter_of_the_loop(
    done: int, ago: int, error: float
) -> None:
    trace = noisy_trace(done, 0.1)
    at = done - 1 - ago
    if at >= 1:
        trace.errors[at] = error / LEVELS[at] ** 2
        assert skips(trace) is (ago >= LOOP // 4)


@given(st.integers(0, LOOP - 2), st.floats(0, 0.2))
def test_under_noise_a_quarter_of_the_loop_is_computed_first(done: int, error: float) -> None:
    assert skips(noisy_trace(done, error)) is (done > LOOP // 4)


@given(st.floats(0.26, 1))
def test_without_noise_the_clean_sample_is_not_looked_at(error: float) -> None:
    trace = dataclasses.replace(noisy_trace(LOOP // 2, error), nodes=2)
    assert skips(trace)


@given(st.integers(LOOP - 8, LOOP - 2), st.floats(1e-4, 1e-3))
def test_under_noise_an_error_grows_like_the_root_of_the_steps(done: int, error: float) -> None:
    """Measured over two steps or over three: the next forecast is expected to be as good."""

    def trace(gap: int) -> Trace:
        mask = [step % gap == (done - 1) % gap for step in range(done)]
        errors = [math.sqrt(gap) * error if computed else math.nan for computed in mask]
        return dataclasses.replace(noisy_trace(done, 0.0), mask=mask, errors=errors)

    for tolerance in [1.07**k * 1e-7 for k in range(200)]:
        policy = ErrorControlled(tolerance)
        assert policy.decide(trace(2)) == policy.decide(trace(3))
