r"""What skips cost where nothing was measured of a model.

The forecast is the line through the last two outputs, whose error grows like the product of the
distances to them. It is weighted as `ErrorControlled` does: by how far the step moves the sample,
and by what becomes of errors at that share of noise. Errors of one run add up.
"""

from __future__ import annotations

import functools

from adaptive_diffusion.numerics.interpolation import growth
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.planning import Plan

__all__ = ["LineCosts", "remains"]

_FLOOR = 0.05  # s_0: errors are never held against less noise, or picture, than this
_PICTURE = 0.3  # kappa: the part of an error that is taken for picture


def remains(schedule: NoiseSchedule, step: int) -> float:
    """What is left at the end of an error in the output of `step`, up to a constant."""
    left = schedule.noise[step + 1]
    return schedule.gains[step] * (1 / (left + _FLOOR) + _PICTURE / (1 - left + _FLOOR))


class LineCosts:
    """Of the skips in a loop, in units that mean nothing by themselves."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._schedule = schedule
        self._remains = [remains(schedule, step) for step in range(len(schedule) - 1)]

    def __len__(self) -> int:
        return len(self._schedule)

    def run_cost(self, known: Plan, following: int) -> float:
        """Of the skips between known[0] and `following`; `known` has the latest step first."""
        return self._run_cost(known[:2], following)

    def plan_cost(self, plan: Plan) -> float:
        """Of all skips of a plan."""
        return sum(
            self.run_cost(plan[max(0, k - 2) : k][::-1], plan[k])
            for k in range(1, len(plan))
            if plan[k] > plan[k - 1] + 1
        )

    @functools.lru_cache(maxsize=1 << 16)  # noqa: B019  costs live as long as their plans
    def _run_cost(self, known: Plan, following: int) -> float:
        at = self._schedule.coordinates
        nodes = [at[step] for step in known]
        skipped = range(known[0] + 1, following)
        return sum(self._remains[step] * growth(nodes, at[step]) for step in skipped) ** 2
