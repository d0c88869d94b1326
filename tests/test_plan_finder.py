"""Plans of a measured model: exactly so many calls, and the nugget that samples favour."""

from __future__ import annotations

import math

import pytest
import torch

from adaptive_diffusion.measured import Measured
from adaptive_diffusion.numerics.statistics import Statistics
from adaptive_diffusion.plan_finder import NUGGETS, PlanFinder
from adaptive_diffusion.policies import Planned

STEPS = 16


def stream() -> Statistics:
    """Outputs that change smoothly, and whose errors all count the same."""
    at = torch.arange(STEPS, dtype=torch.float64)
    kernel = torch.exp(-(((at[:, None] - at) / 6) ** 2))
    ones, none = (1.0,) * STEPS, (0.0,) * STEPS
    return Statistics(tuple(at.tolist()), ones, kernel, ones, ones, none, none)


def measured(loops: int = 1) -> Measured:
    return Measured(tuple((stream(),) for _ in range(loops)), None, "float32")


def nugget_of(policy: Planned) -> float:
    return policy.loops[0][0].nugget


@pytest.mark.parametrize("nfe", range(2, STEPS))
def test_a_plan_has_exactly_so_many_calls(nfe):
    finder = PlanFinder(measured(), lambda policy, sample: 0.0, 2)
    plan = finder.plan(nfe)
    assert finder.steps == STEPS
    assert len(set(plan.steps)) == nfe
    assert (plan.steps[0], plan.steps[-1]) == (0, STEPS - 1)
    assert finder.policy(nfe).plans == (plan.steps,)


@pytest.mark.parametrize("best", NUGGETS)
def test_the_nugget_is_the_one_under_which_samples_come_closest(best):
    finder = PlanFinder(measured(), lambda policy, _: -abs(math.log(nugget_of(policy) / best)), 2)
    assert finder.plan(5).nugget == best
    assert nugget_of(finder.policy(5)) == best


def test_all_nuggets_are_tried_on_two_samples_and_the_best_two_on_four():
    tried = []

    def closeness(policy, sample):
        tried.append((policy.nfe, nugget_of(policy), sample))
        return -math.log(nugget_of(policy))  # small ones are best

    finder = PlanFinder(measured(), closeness, samples=9)
    for nfe in (5, 8, 5):
        finder.policy(nfe)
    for nfe in (5, 8):
        few = [(nfe, nugget, sample) for nugget in NUGGETS for sample in (0, 1)]
        more = [(nfe, nugget, sample) for nugget in NUGGETS[:2] for sample in (2, 3)]
        assert [each for each in tried if each[0] == nfe] == few + more
    assert len(tried) == len(set(tried))
    assert sorted(finder.found) == [5, 8]


def test_the_mean_over_all_samples_decides_between_the_best_two():
    misleading = {NUGGETS[1]: (50.0, 50.0, 10.0, 10.0), NUGGETS[3]: (49.0, 49.0, 40.0, 40.0)}

    def closeness(policy, sample):
        return misleading.get(nugget_of(policy), (48.0,) * 4)[sample]

    assert PlanFinder(measured(), closeness, samples=2).plan(5).nugget == NUGGETS[1]
    assert PlanFinder(measured(), closeness, samples=4).plan(5).nugget == NUGGETS[3]


def test_plans_of_several_loops_are_left_to_the_policy():
    plan = PlanFinder(measured(loops=2), lambda policy, sample: 0.0, 2).plan(5)
    assert plan.steps == ()
