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

__all__ = [
    "KNOWN",
    "LONGEST_JUMP",
    "Costs",
    "Plan",
    "RunCost",
    "best_plan",
    "even_plan",
    "improve",
    "make_plan",
    "neighbours",
    "rising",
]

Plan = tuple[int, ...]
"""The computed steps, in order."""

RunCost = Callable[[Plan, int], float]
"""`cost(known, next)` of the skips between known[0] and `next`; `known` is latest first."""

LONGEST_JUMP = 7
"""From a computed step to the next, where the number of calls allows."""
MOST_PLACES = 100
"""Between which a plan chooses; in a loop of many more steps they are apart."""
MOST_MOVES = 20
"""That are tried of one computed step."""
KNOWN = 4
"""Outputs that a forecast is made of; an interpolation has one more."""
_DENSER = 1.2  # exponent of a plan for an unknown model; one is even


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


def even_plan(steps: int, calls: int, begun: Plan = (0,)) -> Plan:
    """So many steps where nothing is known of a model: nearly even, denser towards the end.

    Of `left` steps after the one computed last, a, the i-th is that next to
    :math:`a + (N - 1 - a)(1 - (1 - i/left)^{1.2})`. The exponent comes from the miniatures `emoji`
    without a prompt, `digits`, `motion`, `scenes` and `sounds`, where the seed decides.
    """
    left = _calls_left(steps, calls, begun)
    return rising(begun, steps, [1 - (1 - i / left) ** _DENSER for i in range(1, left + 1)])


def rising(begun: Plan, steps: int, shares: Sequence[float]) -> Plan:
    """`begun`, and the steps next to these shares of the way to the last one, none twice."""
    start, last = begun[-1], steps - 1
    plan = begun
    for left, share in zip(range(len(shares) - 1, -1, -1), shares, strict=True):
        place = round(start + (last - start) * share)
        plan = (*plan, min(max(place, plan[-1] + 1), last - left))
    return plan


def _calls_left(steps: int, calls: int, begun: Plan) -> int:
    """How many more steps can be computed."""
    return max(0, min(calls - len(begun), steps - 1 - begun[-1]))


def best_plan(cost: RunCost, steps: int, calls: int, begun: Plan = (0,)) -> Plan:
    """The cheapest plan of exactly so many calls.

    Args:
        cost: of one run of skips.
        steps: of the loop.
        calls: how many steps to compute, those in `begun` included.
        begun: the steps that have been computed already, in order.

    Returns:
        `begun` and the steps to come; `begun` alone where no calls are left.
    """
    places, left = _places(steps, calls, begun)
    end = len(places) - 1
    jump = max(LONGEST_JUMP, math.ceil(end / max(1, left)))

    @functools.cache
    def run(a: int, h: int, j: int) -> float:
        if places[j] == places[a] + 1:
            return 0.0
        if a == 0:
            return cost(begun[::-1][:KNOWN], places[j])
        return cost(_evenly(places[a], places[a] - places[a - h], begun[0]), places[j])

    # for m calls more: from the place a, with h places to the one before it, the cost and the next
    best: list[dict[tuple[int, int], tuple[float, int]]] = [{}]
    for m in range(1, left + 1):
        ways: dict[tuple[int, int], tuple[float, int]] = {}
        for a in range(left - m, min((left - m) * jump, end - m) + 1):
            # as many calls as are left must fit in, and reach the end
            following = range(max(a + 1, end - (m - 1) * jump), min(a + jump, end - m + 1) + 1)
            for h in range(1, min(jump, a) + 1) if a else (0,):
                costs = (
                    (run(a, h, j) + (best[-1][j, j - a][0] if m > 1 else 0.0), j) for j in following
                )
                ways[a, h] = min(costs, default=(math.inf, end))
        best.append(ways)

    plan, a, h = begun, 0, 0
    for m in range(left, 0, -1):
        j = best[m][a, h][1]
        a, h = j, j - a
        plan = (*plan, places[a])
    return plan


def _places(steps: int, calls: int, begun: Plan) -> tuple[list[int], int]:
    """The steps that may be computed next, from the latest of `begun` on, and how many of them.

    Not all steps of a long loop, as far as the number of calls allows.
    """
    start, last = begun[-1], steps - 1
    left = _calls_left(steps, calls, begun)
    stride = max(1, min((last - start) // MOST_PLACES, (last - start) // max(1, left)))
    return [*range(start, last, stride), last], left


def improve(plan: Plan, cost: Callable[[Plan], float], fixed: int = 1) -> Plan:
    """Moves each computed step in turn to where the whole plan costs least, while that helps.

    The first `fixed` steps and the last stay.
    """
    best, least, before = plan, cost(plan), math.inf
    while least < before * (1 - 1e-9):
        before = least
        for k in range(fixed, len(plan) - 1):
            moved = [(cost(other), other) for other in neighbours(best, k, MOST_MOVES)]
            least, best = min([(least, best), *moved], key=lambda each: each[0])
    return best


def neighbours(plan: Plan, k: int, most: int | None = None) -> list[Plan]:
    """Plans with the k-th step in another place between the steps around it.

    All of them, or about as many as `most`.
    """
    before, after = plan[k - 1], plan[k + 1]
    stride = 1 if most is None else max(1, (after - before) // most)
    places = range(before + 1, after, stride)
    return [(*plan[:k], place, *plan[k + 1 :]) for place in places if place != plan[k]]


def _evenly(a: int, h: int, first: int) -> Plan:
    """The steps that are taken to be known at a: every h-th before it."""
    return tuple(range(a, max(first, a - (KNOWN - 1) * h) - 1, -h))
