"""What rows find out about a cell before they are measured, on samples that are not in the table.

Two things: the model's statistics, with plans made from them, and masks found by local search. The
search is what the literature has that is strongest: one mask for a model and a number of calls,
chosen by the error of the finished sample. It takes hundreds of runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from adaptive_diffusion.apps.closeness import IDENTICAL_DB, closeness
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.measured import Measured
from adaptive_diffusion.measurement import DISTURBED, calls_needed, measure
from adaptive_diffusion.numerics.planning import Plan, neighbours, rising
from adaptive_diffusion.plan_finder import TRIED_SAMPLES, PlanFinder
from adaptive_diffusion.policies import FixedSchedule, Policy

__all__ = ["LEARNING_SAMPLES", "SEARCH_RUNS", "Learned", "Learner", "search_plan"]

LEARNING_SAMPLES = 4
"""Full runs from which a model is measured."""
SEARCH_RUNS = 150
"""How many runs the search of one mask takes."""

_EARLY = (1.0, 1.25, 1.5, 2.0)  # exponents of the masks a search starts from; 1 is even


@dataclass(frozen=True)
class Learned:
    """A policy that was found.

    Attributes:
        policy: for samples of the cell.
        evaluations: about how many denoiser evaluations that took. Those of a measurement are in
            every policy that was made from it.
    """

    policy: Policy
    evaluations: float


class Learner:
    """Finds policies for a cell, each once.

    Args:
        sampler: with the cell's settings.
        samples: those to learn from.
        notify: told what is being done.
    """

    def __init__(
        self,
        sampler: Sampler,
        samples: Sequence[Sample],
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.notify = notify
        self._sampler = sampler
        self._samples = list(samples)
        self._evaluations = 0.0

    @functools.cache  # noqa: B019  a learner lives as long as its cell
    def measured(self, calls: int) -> Learned:
        """The plan of exactly so many calls from the model's statistics.

        Raises:
            NotMeasurableError: if the pipeline's loops can't be measured.
        """
        finder, spent = self._finder
        before = self._evaluations
        policy = finder.policy(calls)
        return Learned(policy, spent + self._evaluations - before)

    @functools.cache  # noqa: B019
    def searched(self, calls: int, forecasts: bool) -> Learned:
        """The mask of so many calls that a search finds; skips get forecasts, or the last output.

        With forecasts go backfills.
        """
        before = self._evaluations
        _, length = self._full

        def policy(plan: Plan) -> FixedSchedule:
            mask = [step in plan for step in range(length)]
            return FixedSchedule(mask, extrapolates=forecasts, backfill=forecasts)

        self.notify(f"searching a mask of {calls} calls")
        trials = SEARCH_RUNS // TRIED_SAMPLES
        plan = search_plan(length, calls, lambda plan: self._closeness(policy(plan)), trials)
        return Learned(policy(plan), self._evaluations - before)

    @functools.cached_property
    def _finder(self) -> tuple[PlanFinder, float]:
        """Also says what the measurement took."""
        runs = [functools.partial(self._sampler.run, [sample]) for sample in self._samples]
        loops, dtype = measure(self._sampler.pipe, runs, DISTURBED, self.notify)
        steps = sum(len(streams[0]) for streams in loops)
        measured = Measured(loops, self._sampler.settings.guidance, dtype)
        return PlanFinder(measured, self._closeness), calls_needed(steps, len(runs))

    @functools.cached_property
    def _full(self) -> tuple[list[Medium], int]:
        """What the full runs make, and how long their loop is."""
        self.notify("full runs to learn from")
        batches = [self._sampler.run([sample]) for sample in self._samples[:TRIED_SAMPLES]]
        self._evaluations += sum(len(mask) for batch in batches for mask in batch.masks)
        made = [medium for batch in batches for medium in batch.made or ()]
        return made, len(batches[0].masks[0])

    def _closeness(self, policy: Policy) -> float:
        """Mean PSNR to the full runs."""
        references, _ = self._full
        values = []
        for sample, reference in zip(self._samples, references, strict=False):
            batch = self._sampler.run([sample], policy)
            assert batch.made is not None
            self._evaluations += fmean(map(sum, batch.masks))
            values.append(min(closeness(batch.made[0], reference)[0], IDENTICAL_DB))
        return fmean(values)


def search_plan(steps: int, calls: int, closeness: Callable[[Plan], float], trials: int) -> Plan:
    """Local search for the computed steps of a loop: the first is one of them, and the last.

    It starts from the best of masks that are even or denser early on. Then it moves one computed
    step at a time, drawn at random, to another place between its neighbours, and keeps what is
    closer. It ends after so many trials, or when no neighbour is left to try.

    Args:
        steps: of the loop.
        calls: two or more.
        closeness: of the samples made with a plan; the larger, the closer.
        trials: how many plans may be tried.
    """
    calls = min(calls, steps)
    starts = dict.fromkeys(_dense_early(steps, calls, exponent) for exponent in _EARLY)
    tried = {plan: closeness(plan) for plan in list(starts)[:trials]}
    best = max(tried, key=lambda plan: tried[plan])
    random = Random(0)
    while len(tried) < trials:
        inner = range(1, len(best) - 1)
        moves = [plan for k in inner for plan in neighbours(best, k) if plan not in tried]
        if not moves:
            break
        plan = random.choice(moves)
        tried[plan] = closeness(plan)
        if tried[plan] > tried[best]:
            best = plan
    return best


def _dense_early(steps: int, calls: int, exponent: float) -> Plan:
    """Steps whose distances grow like a power of their number."""
    return rising((0,), steps, [(k / (calls - 1)) ** exponent for k in range(1, calls)])
