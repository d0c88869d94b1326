"""Plans against all plans there are, and what every plan keeps to."""

from __future__ import annotations

import itertools
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_statistics import statistics_on

from adaptive_diffusion import NoiseSchedule
from adaptive_diffusion.numerics.planning import (
    LONGEST_JUMP,
    Plan,
    RunCost,
    best_plan,
    even_plan,
    improve,
    make_plan,
)


def random_cost(seed: int) -> RunCost:
    """Of a run, by the two steps known last and the one after it."""

    def cost(known: Plan, following: int) -> float:
        return random.Random(f"{seed} {known[:2]} {following}").random()

    return cost


def of_plan(cost: RunCost, plan: Plan) -> float:
    return sum(
        cost(plan[max(0, k - 4) : k][::-1], plan[k])
        for k in range(1, len(plan))
        if plan[k] > plan[k - 1] + 1
    )


def all_plans(steps: int, calls: int, begun: Plan) -> list[Plan]:
    between, last = range(begun[-1] + 1, steps - 1), steps - 1
    count = calls - len(begun) - 1
    return [(*begun, *chosen, last) for chosen in itertools.combinations(between, count)]


@st.composite
def loops(draw: st.DrawFn, most: int = 9) -> tuple[int, int, Plan]:
    """Steps, calls, and what has been computed already."""
    steps = draw(st.integers(2, most))
    begun = draw(st.sets(st.integers(0, steps - 2), min_size=1, max_size=4))
    calls = draw(st.integers(len(begun) + 1, len(begun) + steps - 1 - max(begun)))
    return steps, calls, tuple(sorted(begun))


@given(loops(), st.integers(0, 999))
def test_the_best_plan_is_the_best_of_all(loop: tuple[int, int, Plan], seed: int) -> None:
    steps, calls, begun = loop
    cost = random_cost(seed)
    found = best_plan(cost, steps, calls, begun)
    plans = all_plans(steps, calls, begun)
    assert found in plans
    least = min(of_plan(cost, plan) for plan in plans)
    assert of_plan(cost, found) == pytest.approx(least)


@settings(max_examples=100)
@given(loops(most=40), st.integers(0, 9))
def test_every_plan_has_its_calls_and_goes_on_from_what_is_computed(
    loop: tuple[int, int, Plan], seed: int
) -> None:
    steps, calls, begun = loop
    cost = random_cost(seed)
    for plan in (
        best_plan(cost, steps, calls, begun),
        make_plan([Costs(cost, steps)], calls, begun),
    ):
        assert len(plan) == calls
        assert plan[: len(begun)] == begun
        assert plan[-1] == steps - 1
        assert all(a < b for a, b in pairwise(plan))


class Costs:
    """Costs of runs that add up."""

    def __init__(self, cost: RunCost, steps: int) -> None:
        self.run_cost = cost
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def plan_cost(self, plan: Plan) -> float:
        return of_plan(self.run_cost, plan)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_no_step_is_added_where_the_calls_are_spent(calls: int) -> None:
    assert best_plan(random_cost(0), 9, calls, (0, 2, 5)) == (0, 2, 5)
    assert make_plan([Costs(random_cost(0), 9)], calls, (0, 2, 5)) == (0, 2, 5)


def test_more_calls_than_steps_compute_all() -> None:
    assert best_plan(random_cost(0), 5, 99) == (0, 1, 2, 3, 4)
    assert best_plan(random_cost(0), 5, 99, (0, 3)) == (0, 3, 4)
    assert best_plan(random_cost(0), 1, 2) == (0,)


@pytest.mark.parametrize("calls", [2, 3, 5])
def test_jumps_are_as_long_as_few_calls_need(calls: int) -> None:
    plan = make_plan([statistics_on(NoiseSchedule.uniform(50))], calls)
    assert len(plan) == calls
    assert max(b - a for a, b in pairwise(plan)) > LONGEST_JUMP


def test_costs_that_are_no_numbers_still_give_a_plan() -> None:
    plan = make_plan([Costs(lambda known, following: float("nan"), 20)], 7)
    assert len(plan) == 7
    assert plan[-1] == 19


@given(loops(most=20), st.integers(0, 99))
def test_improving_never_costs_more(loop: tuple[int, int, Plan], seed: int) -> None:
    steps, calls, begun = loop

    def cost(plan: Plan) -> float:
        return random.Random(f"{seed} {plan}").random()

    plan = best_plan(random_cost(seed), steps, calls, begun)
    better = improve(plan, cost, len(begun))
    assert cost(better) <= cost(plan)
    assert len(better) == calls
    assert better[: len(begun)] == begun
    for k in range(len(begun), calls - 1):  # no single move helps any more
        for place in range(better[k - 1] + 1, better[k + 1]):
            assert cost(better) <= cost((*better[:k], place, *better[k + 1 :]))


@given(st.integers(0, 99))
def test_costs_of_streams_add_up(seed: int) -> None:
    one, other = random_cost(seed), random_cost(seed + 100)
    found = make_plan([Costs(one, 12), Costs(other, 12)], 6)
    both = Costs(lambda known, following: one(known, following) + other(known, following), 12)
    assert found == make_plan([both], 6)


@pytest.mark.parametrize(("steps", "calls"), [(250, 20)])
def test_long_loops_are_planned_in_seconds(steps: int, calls: int) -> None:
    began = time.process_time()
    plan = make_plan([statistics_on(NoiseSchedule.uniform(steps))], calls)
    assert time.process_time() - began < 60
    assert len(plan) == calls


@given(loops(most=60))
def test_an_even_plan_has_its_calls_and_keeps_what_has_begun(loop: tuple[int, int, Plan]) -> None:
    steps, calls, begun = loop
    plan = even_plan(steps, calls, begun)
    assert plan[: len(begun)] == begun
    assert list(plan) == sorted(set(plan))
    assert len(plan) == len(begun) + max(0, min(calls - len(begun), steps - 1 - begun[-1]))
    if len(plan) > len(begun):
        assert plan[-1] == steps - 1


def test_an_even_plan_is_denser_towards_the_end() -> None:
    plan = even_plan(50, 17)
    jumps = [b - a for a, b in pairwise(plan)]
    assert max(jumps) <= 4
    assert sum(jumps[:8]) > sum(jumps[-8:])
