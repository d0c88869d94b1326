r"""Finding the plan, or the tolerance, that a fidelity or a budget allows.

Every sample is run in full once. On one half of the samples the model is measured (`measurement`),
for which their full runs are recorded. Then settings are tried there, from the most careful to the
loosest: plans of fewer and fewer calls or, where the loops of a pipeline can't be measured, larger
and larger tolerances. Bisection finds the loosest that reaches the target. The other half is held
out: where it misses the target, a more careful setting is taken, until both halves reach it.

A target T for the PSNR is two promises for samples not seen: a mean of at least T, and a mean of
the worst tenth of at least T - 3 dB. The second is the hard one, for the PSNR spreads widely, with
rare samples far below the others, and few samples hardly show how wide. So the worst tenth (of so
few samples the worst one) must do better by :math:`30/\sqrt{n}` dB for n samples in all: 10.6 dB of
8 samples, 7.5 of 16, 5.3 of 32. If no sample may fall below a value, the worst one must do better
by twice as much: a plan does not see rare samples (chosen on `digits`). An SSIM is told in
decibels, too: :math:`-10\log_{10}(1 - S)`, so that 3 dB less is twice as far from 1.
"""

from __future__ import annotations

import datetime
import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.components import check_pipeline
from adaptive_diffusion.errors import CalibrationError
from adaptive_diffusion.evidence import WORST_TENTH_BELOW, Evidence, Goal
from adaptive_diffusion.identity import describe_model, describe_scheduler, versions
from adaptive_diffusion.measured import Measured
from adaptive_diffusion.measurement import NotMeasurableError, measure
from adaptive_diffusion.plan_finder import PlanFinder
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy
from adaptive_diffusion.profiles import Profile
from adaptive_diffusion.trials import (
    IDENTICAL,
    Outcome,
    Sample,
    Trials,
    check_call,
    choose_samples,
)

__all__ = ["calibrate", "choose_goal"]

_TOLERANCES = tuple(0.0005 * 2 ** (rung / 2) for rung in range(23))
_FEWER = (1.5, 2.0, 2.5, 3.0, 4.0)  # of which the profile has evidence, whatever the goal
_SAFETY = 30.0  # dB, over the root of the number of samples


def calibrate(
    pipe: Any,
    prompts: Sequence[str] | int,
    *,
    target_psnr: float | None = None,
    target_ssim: float | None = None,
    worst_psnr: float | None = None,
    budget_nfe: float | None = None,
    seed: int = 0,
    notify: Callable[[str], None] | None = None,
    **call: Any,
) -> Profile:
    """Measures a model, and finds the plan for a goal, by runs of its pipeline.

    With 16 samples it takes six to seven full runs for each of them; with more, fewer for each.

    Args:
        pipe: a pipeline that makes pictures, videos or sounds. If it is enabled, it runs with its
            setting again afterwards.
        prompts: one sample each; 16 or more, of the kind that will be asked for. For a pipeline
            that takes none, how many samples. Every second one is held out.
        target_psnr: mean PSNR to the full run to be reached, in dB; the worst tenth of the samples
            may be 3 dB below. Videos count with the mean over their frames, sounds on
            the spectrograms of their channels.
        target_ssim: mean SSIM to be reached; the worst tenth may be twice as far from 1.
        worst_psnr: PSNR to the full run, in dB, that no sample is to fall below. More samples make
            that surer, and faster: 64 or more. It is found on samples, and can't be guaranteed.
        budget_nfe: number of denoiser evaluations to be kept.
        seed: of the first sample; each further sample has the next one. Samples are run one at a
            time.
        notify: told what is being done, in a few words.
        call: for every call of the pipeline: `num_inference_steps`, `guidance_scale`, …

    Raises:
        CalibrationError: unless exactly one goal is given and the call fits the pipeline, both
            before any run; if the pipeline makes neither pictures nor videos; if nothing
            reaches the goal.
        UnsupportedPipelineError: if the pipeline can't be accelerated.
    """
    goal = choose_goal(target_psnr, target_ssim, worst_psnr, budget_nfe)
    check_pipeline(pipe)
    samples = choose_samples(prompts, seed)
    tell = notify or (lambda _: None)
    with pipelines.plain(pipe):
        check_call(pipe, samples[0], call)
        trials = Trials(pipe, call, tell, needs_ssim=goal.kind == "ssim")
        fitting, held_out = samples[::2], samples[1::2]
        ladder: _Ladder
        try:
            ladder = _Plans(_measured(pipe, trials, fitting, call, tell), trials, fitting)
        except NotMeasurableError as error:
            tell(f"a tolerance is calibrated: {error}")
            ladder = _Tolerances()
        trials.make_full(samples)
        search = _within_budget if goal.kind == "nfe" else _reaching
        rung = search(goal, trials, ladder, fitting, held_out)
        found = ladder.profiled(rung, trials, held_out)
    reached = trials.under(ladder.policy(rung), held_out)
    steps = pipelines.asked_steps(type(pipe), **call) or reached[0].steps
    return Profile(
        model=describe_model(pipe),
        scheduler=describe_scheduler(pipe),
        steps=(steps, steps),
        goal=goal,
        evidence=_evidence(reached, len(fitting)),
        versions=versions(),
        date=datetime.date.today().isoformat(),
        **found,
    )


# What is asked for -----------------------------------------------------------------------------


def choose_goal(
    target_psnr: float | None = None,
    target_ssim: float | None = None,
    worst_psnr: float | None = None,
    budget_nfe: float | None = None,
) -> Goal:
    """The goal that `calibrate` is asked for.

    Raises:
        CalibrationError: unless exactly one is given, within its range.
    """
    given = {"psnr": target_psnr, "ssim": target_ssim, "worst": worst_psnr, "nfe": budget_nfe}
    goals = [(kind, value) for kind, value in given.items() if value is not None]
    if len(goals) != 1:
        raise CalibrationError("give one of target_psnr, target_ssim, worst_psnr and budget_nfe")
    ((kind, value),) = goals
    low, high, example = {
        "psnr": (0, IDENTICAL, "target_psnr must be between 0 and 100 dB, such as 35"),
        "ssim": (0, 1, "target_ssim must be between 0 and 1, such as 0.95"),
        "worst": (0, IDENTICAL, "worst_psnr must be between 0 and 100 dB, such as 30"),
        "nfe": (0, math.inf, "budget_nfe must be a number of evaluations, such as 20"),
    }[kind]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise CalibrationError(f"{example}, not {value!r}")
    return Goal(kind, value)


# What is tried ---------------------------------------------------------------------------------


def _measured(
    pipe: Any,
    trials: Trials,
    fitting: Sequence[Sample],
    call: dict[str, Any],
    notify: Callable[[str], None],
) -> Measured:
    """The model's statistics; the runs that are recorded are the full runs of these samples."""
    loops, dtype = measure(
        pipe,
        [functools.partial(trials.run, each) for each in fitting],
        notify=notify,
        keep=lambda index, pictures: trials.keep_full(fitting[index], pictures),
    )
    guidance = call.get("guidance_scale")
    return Measured(loops, None if guidance is None else float(guidance), dtype)


class _Ladder:
    """Policies from the most careful to the loosest."""

    def __len__(self) -> int:
        raise NotImplementedError

    def policy(self, rung: int) -> Policy:
        raise NotImplementedError

    def mean_nfe(self, rung: int, trials: Trials, fitting: Sequence[Sample]) -> float:
        """How many evaluations a sample takes."""
        outcomes = trials.under(self.policy(rung), fitting)
        return fmean(outcome.nfe for outcome in outcomes)

    def profiled(self, rung: int, trials: Trials, held_out: Sequence[Sample]) -> dict[str, Any]:
        """What the profile gets."""
        raise NotImplementedError


class _Tolerances(_Ladder):
    def __len__(self) -> int:
        return len(_TOLERANCES)

    def policy(self, rung: int) -> Policy:
        return ErrorControlled(_TOLERANCES[rung])

    def profiled(self, rung: int, trials: Trials, held_out: Sequence[Sample]) -> dict[str, Any]:
        return {"tolerance": _TOLERANCES[rung]}


class _Plans(_Ladder):
    """Plans of fewer and fewer calls, each with the nugget that does best on a few samples."""

    def __init__(self, measured: Measured, trials: Trials, fitting: Sequence[Sample]) -> None:
        def closeness(policy: Planned, index: int) -> float:
            (outcome,) = trials.under(policy, [fitting[index]])
            return outcome.psnr

        self._finder = PlanFinder(measured, closeness, len(fitting))

    def __len__(self) -> int:
        return max(1, self._finder.steps - 2)

    def policy(self, rung: int) -> Planned:
        return self._finder.policy(self._nfe(rung))

    def mean_nfe(self, rung: int, trials: Trials, fitting: Sequence[Sample]) -> float:
        """Known without a run: a plan has its number of calls in every loop."""
        loops = self._finder.measured.loops
        return sum(min(self._nfe(rung), len(streams[0])) for streams in loops)

    def _nfe(self, rung: int) -> int:
        return max(2, self._finder.steps - 1 - rung)

    def profiled(self, rung: int, trials: Trials, held_out: Sequence[Sample]) -> dict[str, Any]:
        finder, nfe = self._finder, self._nfe(rung)
        proven = {
            each: replace(finder.plan(each), evidence=self._evidence(each, trials, held_out))
            for each in {nfe, *(max(2, round(finder.steps / ratio)) for ratio in _FEWER)}
        }
        plans = finder.found | proven
        measured = replace(finder.measured, plans=tuple(plans[each] for each in sorted(plans)))
        return {"nfe": nfe, "measured": measured}

    def _evidence(self, nfe: int, trials: Trials, held_out: Sequence[Sample]) -> Evidence:
        return _evidence(trials.under(self._finder.policy(nfe), held_out), self._finder.samples)


# Searches --------------------------------------------------------------------------------------


def _reaching(
    goal: Goal,
    trials: Trials,
    ladder: _Ladder,
    fitting: Sequence[Sample],
    held_out: Sequence[Sample],
) -> int:
    """The loosest rung that reaches the target on both halves."""
    count = len(fitting) + len(held_out)
    safety = _SAFETY / math.sqrt(count)
    above = 2 * safety if goal.kind == "worst" else safety - WORST_TENTH_BELOW
    lowest = _decibels(goal.kind, goal.value) + above

    def misses(rung: int, samples: Sequence[Sample]) -> bool:
        values = _fidelities(goal.kind, trials.under(ladder.policy(rung), samples))
        tail = _decibels(goal.kind, _tail(goal.kind, values))
        # written so that a value that is not a number means: missed
        return not (fmean(values) >= goal.value and tail >= lowest)

    loosest = bisect_left(range(len(ladder)), True, key=lambda rung: misses(rung, fitting)) - 1
    for rung in range(loosest, -1, -1):
        if not misses(rung, fitting) and not misses(rung, held_out):
            return rung
    careful = ladder.policy(0)
    values = _fidelities(goal.kind, trials.under(careful, [*fitting, *held_out]))
    needed = 1 - 10 ** (-lowest / 10) if goal.kind == "ssim" else lowest
    raise CalibrationError(
        f"{goal} is not reached: under {careful} the mean is "
        f"{fmean(values):.4g} and the {'worst' if goal.kind == 'worst' else 'worst tenth'} "
        f"{_tail(goal.kind, values):.4g}, where {count} samples need {needed:.4g}: ask for less, "
        "or give more samples or steps"
    )


def _within_budget(
    goal: Goal,
    trials: Trials,
    ladder: _Ladder,
    fitting: Sequence[Sample],
    held_out: Sequence[Sample],
) -> int:
    """The most careful rung whose mean number of evaluations is within the budget."""

    def mean_nfe(rung: int) -> float:
        return ladder.mean_nfe(rung, trials, fitting)

    careful = bisect_left(range(len(ladder)), True, key=lambda rung: mean_nfe(rung) <= goal.value)
    if careful < len(ladder):
        return careful
    loosest = len(ladder) - 1
    raise CalibrationError(
        f"{goal} are too few: under {ladder.policy(loosest)} the mean is "
        f"{mean_nfe(loosest):.1f}: give a larger budget, or take fewer steps"
    )


# Figures ---------------------------------------------------------------------------------------


def _fidelities(kind: str, outcomes: Sequence[Outcome]) -> list[float]:
    return [getattr(outcome, "ssim" if kind == "ssim" else "psnr") for outcome in outcomes]


def _tail(kind: str, values: Sequence[float]) -> float:
    """What a goal is the hardest for: the worst sample, or the worst tenth of them."""
    return min(values) if kind == "worst" else _worst_tenth(values)


def _worst_tenth(values: Sequence[float]) -> float:
    """Mean of the worst tenth, rounded down, of the worst one at least."""
    return fmean(sorted(values)[: max(1, len(values) // 10)])


def _decibels(kind: str, value: float) -> float:
    if kind != "ssim":
        return value
    return IDENTICAL if value >= 1 else -10 * math.log10(1 - value)


def _evidence(outcomes: Sequence[Outcome], fitting: int) -> Evidence:
    decibels = _fidelities("psnr", outcomes)
    similarities = [outcome.ssim for outcome in outcomes if outcome.ssim is not None]
    nfe = fmean(outcome.nfe for outcome in outcomes)
    return Evidence(
        fitting=fitting,
        held_out=len(outcomes),
        psnr_mean=fmean(decibels),
        psnr_worst_tenth=_worst_tenth(decibels),
        psnr_worst=min(decibels),
        ssim_mean=fmean(similarities) if similarities else None,
        ssim_worst_tenth=_worst_tenth(similarities) if similarities else None,
        nfe=nfe,
        nfe_reduction=fmean(outcome.steps for outcome in outcomes) / nfe,
    )
