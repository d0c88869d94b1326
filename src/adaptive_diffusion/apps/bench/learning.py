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
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler
from adaptive_diffusion.measured import Measured
from adaptive_diffusion.measurement import DISTURBED, calls_needed, measure
from adaptive_diffusion.numerics.planning import Plan, neighbours, rising
from adaptive_diffusion.plan_finder import PlanFinder
from adaptive_diffusion.policies import FixedSchedule, Policy

__all__ = ["LEARNING_SAMPLES", "SEARCH_RUNS", "Learned", "Learner", "search_plan"]

LEARNING_SAMPLES = 8
"""Full runs from which a model is measured: as many as `calibrate` makes of 16 prompts."""
SEARCH_RUNS = 150
"""How many runs the search of one mask takes."""

_SEARCH_SAMPLES = 2  # that each of these runs is one of
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
        self._full: dict[int, Batch] = {}
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
        length = len(self._full_run(0).masks[0])

        def policy(plan: Plan) -> FixedSchedule:
            mask = [step in plan for step in range(length)]
            return FixedSchedule(mask, extrapolates=forecasts, backfill=forecasts)

        self.notify(f"searching a mask of {calls} calls")
        samples = range(min(_SEARCH_SAMPLES, len(self._samples)))
        trials = SEARCH_RUNS // len(samples)

        def closeness(plan: Plan) -> float:
            return fmean(self._closeness(policy(plan), each) for each in samples)

        plan = search_plan(length, calls, closeness, trials)
        return Learned(policy(plan), self._evaluations - before)

    @functools.cached_property
    def _finder(self) -> tuple[PlanFinder, float]:
        """Also says what the measurement took. The runs that it records are the full runs."""
        runs = [functools.partial(self._sampler.run, [sample]) for sample in self._samples]
        loops, dtype = measure(
            self._sampler.pipe, runs, DISTURBED, self.notify, self._full.__setitem__
        )
        steps = sum(len(streams[0]) for streams in loops)
        measured = Measured(loops, self._sampler.settings.guidance, dtype)
        finder = PlanFinder(measured, self._closeness, len(runs))
        return finder, calls_needed(steps, len(runs))

    def _full_run(self, index: int) -> Batch:
        """Of a sample, made once."""
        if index not in self._full:
            self.notify("full runs to learn from")
            self._full[index] = self._sampler.run([self._samples[index]])
            self._evaluations += len(self._full[index].masks[0])
        return self._full[index]

    def _closeness(self, policy: Policy, index: int) -> float:
        """PSNR of a sample to its full run."""
        full = self._full_run(index)
        batch = self._sampler.run([self._samples[index]], policy)
        self._evaluations += fmean(map(sum, batch.masks))
        assert batch.made is not None
        assert full.made is not None
        return min(closeness(batch.made[0], full.made[0])[0], IDENTICAL_DB)


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
