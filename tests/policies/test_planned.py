"""Exactly as many calls as were asked for, whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_statistics import statistics_on

from adaptive_diffusion import NoiseSchedule, PolicyError, Trace
from adaptive_diffusion.policies import Planned

STEPS = 24
SCHEDULE = NoiseSchedule.uniform(STEPS)
MEASURED = ((statistics_on(SCHEDULE),),)


def trace_of(mask: list[bool], begun: int = 0, steps: int = STEPS) -> Trace:
    return Trace(NoiseSchedule.uniform(steps), mask=list(mask), begun=begun)


def run(
    policy: Planned,
    steps: int = STEPS,
    forced: frozenset[int] = frozenset(),
    begins: frozenset[int] = frozenset(),
) -> list[bool]:
    """A loop in which some steps are computed whatever the policy says, as far as calls are left.

    At those in `begins` all that was known is forgotten, too.
    """
    trace = trace_of([], steps=steps)
    while trace.step < steps:
        spent = sum(trace.mask) >= policy.nfe
        if trace.step in begins and not spent:
            trace.begun = trace.step
        must = trace.step == trace.begun or (trace.step in forced and not spent)
        trace.mask.append(must or policy.decide(trace))
    return trace.mask


masks = st.lists(st.booleans(), max_size=STEPS - 1).map(lambda rest: [True, *rest])
some_steps = st.frozensets(st.integers(1, STEPS - 1), max_size=8)
policies = st.builds(Planned, st.integers(2, STEPS + 3), loops=st.sampled_from([(), MEASURED]))


@settings(max_examples=60)
@given(policies)
def test_every_loop_has_exactly_its_calls(policy: Planned) -> None:
    mask = run(policy)
    assert sum(mask) == min(policy.nfe, STEPS)
    assert mask[0]
    assert mask[-1]


@settings(max_examples=100)
@given(policies, some_steps, some_steps)
def test_steps_that_were_not_planned_count(
    policy: Planned, forced: frozenset[int], begins: frozenset[int]
) -> None:
    assert sum(run(policy, forced=forced, begins=begins)) == min(policy.nfe, STEPS)


@given(st.integers(2, 40), st.integers(2, 40))
def test_loops_of_any_length(steps: int, nfe: int) -> None:
    assert sum(run(Planned(nfe), steps)) == min(nfe, steps)


@given(masks.filter(lambda mask: len(mask) < STEPS), policies)
def test_it_is_a_pure_function_of_the_trace(mask: list[bool], policy: Planned) -> None:
    """Whatever was asked of it, or of one like it, before."""
    decided = policy.decide(trace_of(mask))
    assert replace(policy, plans=((0, STEPS - 1),)) != policy
    for _ in range(2):
        assert replace(policy).decide(trace_of(mask)) == decided
        run(policy, forced=frozenset({3, 4}))
        assert policy.decide(trace_of(mask)) == decided
    assert trace_of(mask) == trace_of(mask)


def test_where_nothing_is_known_it_computes() -> None:
    assert Planned(2).decide(trace_of([]))
    assert Planned(2).decide(trace_of([True, True, False], begun=3))


def test_a_plan_that_was_found_is_followed() -> None:
    found = (0, 2, 11, 23)
    policy = Planned(4, MEASURED, plans=((0, 1, 23), found))
    assert tuple(k for k, computed in enumerate(run(policy)) if computed) == found


@pytest.mark.parametrize("plans", [((0, 5, 23),), ((0, 1, 2, 3),)], ids=["others", "short"])
def test_plans_for_other_loops_are_not_followed(plans: tuple[tuple[int, ...], ...]) -> None:
    assert run(Planned(4, MEASURED, plans)) == run(Planned(4, MEASURED))


def test_plans_are_not_followed_on_another_number_of_steps() -> None:
    policy = Planned(4, MEASURED, plans=((0, 2, 11, 23),))
    assert sum(run(policy, steps=40)) == 4
    assert run(policy, steps=40)[-1]


def test_the_nearest_of_several_measured_loops_is_used() -> None:
    short = NoiseSchedule.uniform(8)
    policy = Planned(4, (*MEASURED, (statistics_on(short),)))
    assert policy.statistics_of(short, 0) == statistics_on(short)
    assert policy.statistics_of(SCHEDULE, 0) == statistics_on(SCHEDULE)
    assert policy.statistics_of(SCHEDULE, 3) == statistics_on(SCHEDULE)  # more streams than known
    assert Planned(4).statistics_of(SCHEDULE, 0) is None


@pytest.mark.parametrize("nfe", [1, 0, -3, 2.5, "3", True, None])
def test_what_is_no_number_of_calls_is_refused(nfe: object) -> None:
    with pytest.raises(PolicyError, match="nfe must be a whole number of at least 2"):
        Planned(nfe)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "steps", "words"),
    [
        (5, 20, ""),
        (5, 5, ""),
        (4, 4, "none of 4 steps skipped: 5 calls were asked for"),
        (4, 20, "4 calls instead of 5 in 20 steps: the loop ended earlier"),
        (7, 20, "7 calls instead of 5 in 20 steps: some had to be computed"),
    ],
)
def test_it_tells_where_the_calls_were_others(made: int, steps: int, words: str) -> None:
    remark = Planned(5).remark([True] * made + [False] * (steps - made))
    assert remark.startswith(words)
    assert bool(remark) == bool(words)
