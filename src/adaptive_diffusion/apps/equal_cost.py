"""The paper's rule at the cost of another way: the search for its threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adaptive_diffusion.policies import ThirdOrder

__all__ = ["paper_rule_at"]

_LOWEST, _HIGHEST = 1e-4, 10.0
_CLOSE = 0.5  # evaluations: nearer than half of one needs no further search


def paper_rule_at(
    target: float, cost: Callable[[ThirdOrder], float], probes: int = 9, **settings: Any
) -> ThirdOrder:
    """The paper's rule whose threshold costs at least `target`, and the least above it.

    A higher threshold skips more, so each probe halves the range, in its logarithm. At the lowest
    threshold the rule may still be cheaper than the target: then it is the one at that threshold.

    Args:
        target: mean number of denoiser evaluations.
        cost: runs the rule; gives its mean number of evaluations.
        probes: how often it may run.
        settings: others of the rule's, such as `max_skip`.
    """
    low, high = _LOWEST, _HIGHEST
    for _ in range(probes):
        middle = float(f"{math.sqrt(low * high):.3g}")
        excess = cost(ThirdOrder(threshold=middle, **settings)) - target
        low, high = (middle, high) if excess >= 0 else (low, middle)
        if 0 <= excess <= _CLOSE:
            break
    return ThirdOrder(threshold=low, **settings)
