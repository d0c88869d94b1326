r"""Which steps to compute, if so many may be: found beforehand, from what errors cost.

A *plan* is the list of computed steps; the first and the last are among them. Between two of them
lies a run of skips, whose cost is the squared error that it leaves in the result. Costs are added
up as if the errors of runs were independent. Then dynamic programming finds the best plan of
exactly n steps (Bellman, 1957): with a the step computed last, h its distance to the one before,
and m steps still to be computed,

.. math:: V(a, h, m) = \min_j \; C(a, h, j) + V(j, j - a, m - 1).

C depends on the outputs before a as well; they are taken to stand as far apart as the last two.
`improve` needs no such assumption: it moves one computed step at a time while a cost of the whole
plan falls.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["KNOWN", "LONGEST_JUMP", "Costs", "Plan", "RunCost", "best_plan", "improve", "make_plan"]

Plan = tuple[int, ...]
"""The computed steps, in order."""

RunCost = Callable[[Plan, int], float]
"""`cost(known, next)` of the skips between known[0] and `next`; `known` is latest first."""

LONGEST_JUMP = 7
"""From a computed step to the next, where the number of calls allows."""
KNOWN = 4
"""Outputs that a forecast is made of; an interpolation has one more."""


class Costs(Protocol):
    """What skips cost in one stream of a loop."""

    def __len__(self) -> int:
        """Steps of the loop."""

    def run_cost(self, known: Plan, following: int) -> float:
        """Of the skips between known[0] and `following`; `known` has the latest step first."""

    def plan_cost(self, plan: Plan) -> float:
        """Of all skips of a plan."""


def make_plan(costs: Sequence[Costs], calls: int, begun: Plan = (0,)) -> Plan:
    """The steps to compute in a loop, `calls` of them, if those in `begun` have been computed.

    The costs of its streams add up.
    """
    found = best_plan(
        lambda known, following: sum(each.run_cost(known, following) for each in costs),
        len(costs[0]),
        calls,
        begun,
    )
    return improve(found, lambda plan: sum(each.plan_cost(plan) for each in costs), len(begun))


def best_plan(cost: RunCost, steps: int, calls: int, begun: Plan = (0,)) -> Plan:
    """The cheapest plan of exactly so many calls.

    Args:
        cost: of one run of skips.
        steps: of the loop.
        calls: how many steps to compute, those in `begun` included.
        begun: the steps that have been computed already, in order.

    Returns:
        `begun` and the steps to come. If `calls` can't be kept any more, as many as are nearest.
    """
    last = steps - 1
    start, left = begun[-1], calls - len(begun)
    if start == last:
        return begun
    left = min(max(left, 1), last - start)
    jump = max(LONGEST_JUMP, math.ceil((last - start) / left))

    @functools.cache
    def run(a: int, h: int, j: int) -> float:
        known = begun[::-1][:KNOWN] if a == start else tuple(_evenly(a, h, begun[0]))
        return cost(known, j) if j > a + 1 else 0.0

    @functools.cache
    def value(a: int, h: int, m: int) -> tuple[float, int]:
        """The cheapest way from a to the end with m more calls, and its next step."""
        if m == 1:
            return (run(a, h, last), last) if last - a <= jump else (math.inf, last)
        # as many calls as are left must fit in, and reach the end
        nearest, farthest = max(a + 1, last - (m - 1) * jump), min(a + jump, last - (m - 1))
        ways = ((run(a, h, j) + value(j, j - a, m - 1)[0], j) for j in range(nearest, farthest + 1))
        return min(ways, default=(math.inf, last))

    plan, h = begun, 0
    for m in range(left, 0, -1):
        step = value(plan[-1], h, m)[1]
        h = step - plan[-1]
        plan = (*plan, step)
    return plan


def improve(plan: Plan, cost: Callable[[Plan], float], fixed: int = 1) -> Plan:
    """Moves one computed step at a time to where the whole plan costs least, while that helps.

    The first `fixed` steps and the last stay.
    """
    best, least = plan, cost(plan)
    while True:
        moved = [(cost(other), other) for other in _neighbours(best, fixed)]
        cheapest = min(moved, default=(math.inf, best))
        if not cheapest[0] < least * (1 - 1e-9):
            return best
        least, best = cheapest


def _neighbours(plan: Plan, fixed: int) -> list[Plan]:
    """All plans that differ in the place of one step, between those on both sides of it."""
    return [
        (*plan[:k], place, *plan[k + 1 :])
        for k in range(fixed, len(plan) - 1)
        for place in range(plan[k - 1] + 1, plan[k + 1])
        if place != plan[k]
    ]


def _evenly(a: int, h: int, first: int) -> Sequence[int]:
    """The steps that are taken to be known at a: every h-th before it."""
    return range(a, max(first, a - (KNOWN - 1) * h) - 1, -h) if h else (a,)
