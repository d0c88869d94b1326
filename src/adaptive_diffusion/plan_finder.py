"""Finding a measured model's plan for a number of calls: by its statistics, and a few trials.

The statistics give the best plan for any nugget. Which nugget is best they do not say, so that one
plan is made with each of a few, and tried on samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import fmean

from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.numerics.planning import make_plan
from adaptive_diffusion.numerics.statistics import LoopStatistics
from adaptive_diffusion.policies import Planned

__all__ = ["NUGGETS", "PlanFinder"]

NUGGETS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Those that are tried: small where the seed decides, large at high guidance and few calls."""

_TRIED = 4  # samples that the best nuggets are tried on
_FIRST = 2  # of these, samples that all nuggets are tried on
_FINALISTS = 2  # nuggets that are tried on the others, too


class PlanFinder:
    """Plans of a measured model, each found once.

    Args:
        measured: the model's statistics.
        closeness: of a sample made by a plan to its full run; the larger, the closer. Samples are
            given by number, from 0 on.
        samples: how many there are.

    Attributes:
        samples: how many of them are tried.
    """

    def __init__(
        self, measured: Measured, closeness: Callable[[Planned, int], float], samples: int
    ) -> None:
        self.measured = measured
        self.steps = max(len(streams[0]) for streams in measured.loops)
        self._closeness = closeness
        self.samples = min(samples, _TRIED)
        self._found: dict[int, FoundPlan] = {}

    @property
    def found(self) -> dict[int, FoundPlan]:
        """All plans that were found, by their numbers of calls."""
        return dict(self._found)

    def plan(self, nfe: int) -> FoundPlan:
        """That of exactly so many calls, with the nugget that brings the samples closest."""
        if nfe not in self._found:
            self._found[nfe] = self._closest([self._candidate(nfe, nugget) for nugget in NUGGETS])
        return self._found[nfe]

    def policy(self, nfe: int) -> Planned:
        """The policy that follows this plan."""
        return self._policy(self.plan(nfe))

    def _closest(self, candidates: list[FoundPlan]) -> FoundPlan:
        """Few samples are enough to leave out the worst, and too few to tell the best two apart."""
        samples = range(self.samples)
        seen = {plan: self._tried(plan, samples[:_FIRST]) for plan in candidates}
        best = sorted(candidates, key=lambda plan: fmean(seen[plan]), reverse=True)[:_FINALISTS]
        for plan in best:
            seen[plan] += self._tried(plan, samples[_FIRST:])
        return max(best, key=lambda plan: fmean(seen[plan]))

    def _tried(self, plan: FoundPlan, samples: range) -> list[float]:
        policy = self._policy(plan)
        return [self._closeness(policy, sample) for sample in samples]

    def _candidate(self, nfe: int, nugget: float) -> FoundPlan:
        loops = self._loops(nugget)
        steps = make_plan(loops[0], nfe) if len(loops) == 1 else ()
        return FoundPlan(nfe, steps, nugget)

    def _policy(self, plan: FoundPlan) -> Planned:
        return Planned(plan.nfe, self._loops(plan.nugget), (plan.steps,) if plan.steps else ())

    @functools.lru_cache(maxsize=len(NUGGETS))  # noqa: B019  whose run costs all plans share
    def _loops(self, nugget: float) -> tuple[LoopStatistics, ...]:
        return self.measured.with_nugget(nugget)
