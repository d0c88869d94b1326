r"""Finding the tolerance that a fidelity, or a budget, allows.

Every sample is run in full once. Then tolerances are tried, from a geometric ladder, on one half of
the samples: bisection finds the loosest that reaches the target there. The other half is held out:
where it misses the target, the tolerance goes down the ladder until both halves reach it.

A target T for the PSNR is two promises for samples not seen: a mean of at least T, and a mean of
the worst tenth of at least T - 3 dB. The second is the hard one, for the PSNR spreads widely, with
rare samples far below the others, and few samples hardly show how wide. So the worst tenth (of so
few samples the worst one) must do better by :math:`30/\sqrt{n}` dB for n samples in all: 10.6 dB of
8 samples, 7.5 of 16, 5.3 of 32. An SSIM is told in decibels, too: :math:`-10\log_{10}(1 - S)`, so
that 3 dB less is twice as far from 1.
"""

from __future__ import annotations

import datetime
import inspect
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.components import check_pipeline, sampling_rate
from adaptive_diffusion.api import accelerate
from adaptive_diffusion.errors import CalibrationError
from adaptive_diffusion.numerics.metrics import SMALLEST_SSIM, psnr, ssim
from adaptive_diffusion.numerics.spectrogram import spectrogram
from adaptive_diffusion.profile import (
    Evidence,
    Goal,
    Profile,
    describe_model,
    describe_scheduler,
)
from adaptive_diffusion.version import __version__

__all__ = ["calibrate", "choose_goal"]

_LADDER = tuple(0.0005 * 2 ** (rung / 2) for rung in range(23))
_RUNGS = range(len(_LADDER))
_FEWEST_SAMPLES = 4  # two to fit to, two to hold out
_WORST_TENTH_BELOW = 3.0  # dB
_SAFETY = 30.0  # dB, over the root of the number of samples
_IDENTICAL = 100.0  # dB: what a sample counts that is the full run's to the last bit
_OURS = ("prompt", "generator", "output_type", "return_dict")


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
    """Finds the tolerance for a goal, by runs of the pipeline, full and accelerated.

    Args:
        pipe: a pipeline that makes pictures or videos. If it is enabled, it runs with its setting
            again afterwards.
        prompts: one sample each; 16 or more, of the kind that will be asked for. For a pipeline
            that takes none, how many samples. Every second one is held out.
        target_psnr: mean PSNR to the full run to be reached, in dB; the worst tenth of the samples
            may be 3 dB below. Videos count with the mean over their frames, sounds on
            the spectrograms of their channels.
        target_ssim: mean SSIM to be reached; the worst tenth may be twice as far from 1.
        worst_psnr: PSNR to the full run, in dB, that no sample is to fall below. More samples make
            that surer, and faster: 64 or more. It is found on samples, and can't be guaranteed.
        budget_nfe: mean number of denoiser evaluations to be kept; the tightest tolerance that
            keeps it is found.
        seed: of the first sample; the next has the next. Samples are run one at a time.
        notify: told what is being done, in a few words.
        call: for every call of the pipeline: `num_inference_steps`, `guidance_scale`, …

    Raises:
        CalibrationError: unless exactly one goal is given and the call fits the pipeline, both
            before any run; if the pipeline makes neither pictures nor videos; if no tolerance
            reaches the goal.
        UnsupportedPipelineError: if the pipeline can't be accelerated.
    """
    goal = choose_goal(target_psnr, target_ssim, worst_psnr, budget_nfe)
    check_pipeline(pipe)
    samples = _samples(prompts, seed)
    with pipelines.plain(pipe):
        _check_call(pipe, samples[0], call)
        runs = _Runs(pipe, call, notify or (lambda _: None))
        runs.make_full(samples, needs_ssim=goal.kind == "ssim")
        fitting, held_out = samples[::2], samples[1::2]
        search = _within_budget if goal.kind == "nfe" else _reaching
        rung = search(goal, runs, fitting, held_out)
        reached = runs.at(rung, held_out)
    steps = pipelines.asked_steps(type(pipe), **call) or reached[0].steps
    return Profile(
        model=describe_model(pipe),
        scheduler=describe_scheduler(pipe),
        steps=(steps, steps),
        tolerance=_LADDER[rung],
        goal=goal,
        evidence=_evidence(reached, len(fitting)),
        versions=_versions(),
        date=datetime.date.today().isoformat(),
    )


# What is asked for -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    prompt: str | None
    seed: int


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
        "psnr": (0, _IDENTICAL, "target_psnr must be between 0 and 100 dB, such as 35"),
        "ssim": (0, 1, "target_ssim must be between 0 and 1, such as 0.95"),
        "worst": (0, _IDENTICAL, "worst_psnr must be between 0 and 100 dB, such as 30"),
        "nfe": (0, math.inf, "budget_nfe must be a number of evaluations, such as 20"),
    }[kind]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise CalibrationError(f"{example}, not {value!r}")
    return Goal(kind, value)


def _samples(prompts: Sequence[str] | int, seed: int) -> list[_Sample]:
    asked = [None] * prompts if isinstance(prompts, int) else list(prompts)
    if isinstance(prompts, str) or not all(each is None or isinstance(each, str) for each in asked):
        raise CalibrationError("prompts must be a list of texts, or how many samples to make")
    if len(asked) < _FEWEST_SAMPLES:
        raise CalibrationError(
            f"{len(asked)} samples are too few: give at least {_FEWEST_SAMPLES}, better 16"
        )
    return [_Sample(prompt, seed + index) for index, prompt in enumerate(asked)]


def _check_call(pipe: Any, sample: _Sample, call: dict[str, Any]) -> None:
    name, signature = type(pipe).__name__, inspect.signature(type(pipe).__call__)
    for argument in _OURS:
        if argument in call:
            raise CalibrationError(f"{argument} is set by calibrate: leave it out")
    takes_prompts = "prompt" in signature.parameters
    if sample.prompt is not None and not takes_prompts:
        raise CalibrationError(f"{name} takes no prompts: say how many samples to make")
    if sample.prompt is None and takes_prompts and call.get("prompt_embeds") is None:
        raise CalibrationError(f"{name} draws what a prompt says: give a list of prompts")
    try:
        signature.bind(pipe, **_arguments(sample, call))
    except TypeError as error:
        raise CalibrationError(f"{name} can't be called so: {error}") from error


def _arguments(sample: _Sample, call: dict[str, Any]) -> dict[str, Any]:
    prompt = {} if sample.prompt is None else {"prompt": sample.prompt}
    generator = torch.Generator("cpu").manual_seed(sample.seed)
    return call | prompt | {"generator": generator, "output_type": "np"}


# Runs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcome:
    """One accelerated run, against the full one: fidelities are means over the frames."""

    psnr: float
    ssim: float | None
    nfe: float
    steps: int


class _Runs:
    """The runs of a pipeline: each sample in full, and at a rung of the ladder, once."""

    def __init__(self, pipe: Any, call: dict[str, Any], notify: Callable[[str], None]) -> None:
        self._pipe = pipe
        self._call = call
        self._notify = notify
        self._full: dict[_Sample, Tensor] = {}
        self._outcomes: dict[tuple[int, _Sample], _Outcome] = {}

    def make_full(self, samples: Sequence[_Sample], needs_ssim: bool) -> None:
        """Makes what the accelerated runs are held against."""
        for index, sample in enumerate(samples):
            self._notify(f"full run {index + 1} of {len(samples)}")
            pictures = self._full[sample] = self._run(sample)
            if needs_ssim and not _has_ssim(pictures):
                height, width = pictures.shape[-2:]
                raise CalibrationError(
                    f"pictures of {width}x{height} pixels are too small for an SSIM: "
                    "give target_psnr"
                )

    def at(self, rung: int, samples: Sequence[_Sample]) -> list[_Outcome]:
        """The samples' outcomes at a tolerance."""
        for index, sample in enumerate(samples):
            if (rung, sample) not in self._outcomes:
                self._notify(f"tolerance {_LADDER[rung]:.3g}: run {index + 1} of {len(samples)}")
                self._outcomes[rung, sample] = self._accelerated(rung, sample)
        return [self._outcomes[rung, sample] for sample in samples]

    def _accelerated(self, rung: int, sample: _Sample) -> _Outcome:
        with accelerate(self._pipe, tolerance=_LADDER[rung]) as run:
            pictures = self._run(sample)
        full, report = self._full[sample], run.report
        if not report.steps:
            raise CalibrationError(f"{type(self._pipe).__name__} ran no denoising loop: {report}")
        return _Outcome(
            psnr=float(psnr(pictures, full).clamp(max=_IDENTICAL).mean()),
            ssim=float(ssim(pictures, full).mean()) if _has_ssim(full) else None,
            nfe=fmean(report.nfe),
            steps=report.steps,
        )

    def _run(self, sample: _Sample) -> Tensor:
        """One sample's picture, its frames, or its channels' spectrograms: `(F, C, H, W)`, values
        from 0 to 1."""
        return _pictures(self._pipe(**_arguments(sample, self._call)), self._pipe)


def _pictures(result: Any, pipe: Any) -> Tensor:
    name = type(pipe).__name__
    audios = getattr(result, "audios", None)
    if audios is not None:
        return _spectrograms(torch.as_tensor(audios), pipe)
    images, frames = getattr(result, "images", None), getattr(result, "frames", None)
    try:
        pictures = torch.as_tensor(frames if images is None else images)
    except (TypeError, ValueError, RuntimeError):
        raise CalibrationError(
            f"{name} makes neither pictures nor videos nor sounds to compare"
        ) from None
    if images is None and pictures.ndim == 5 and len(pictures) == 1:
        pictures = pictures[0]
    elif images is None or pictures.ndim != 4 or len(pictures) != 1:
        raise CalibrationError(
            f"{name} must make one picture or video for a prompt, not {tuple(pictures.shape)}"
        )
    return pictures.movedim(-1, 1)


def _spectrograms(sounds: Tensor, pipe: Any) -> Tensor:
    """Of one sound `(1, N)` or `(1, channels, N)`: a picture for each channel."""
    name, rate = type(pipe).__name__, sampling_rate(pipe)
    if rate is None or len(sounds) != 1 or sounds.ndim not in (2, 3):
        raise CalibrationError(
            f"{name} must make one sound for a prompt and say its sampling rate, "
            f"not {tuple(sounds.shape)} at {rate}"
        )
    return spectrogram(sounds[0].reshape(-1, sounds.shape[-1]), rate)[:, None]


def _has_ssim(pictures: Tensor) -> bool:
    return min(pictures.shape[-2:]) >= SMALLEST_SSIM


# Searches --------------------------------------------------------------------------------------


def _reaching(
    goal: Goal, runs: _Runs, fitting: Sequence[_Sample], held_out: Sequence[_Sample]
) -> int:
    """The loosest rung that reaches the target on both halves."""
    count = len(fitting) + len(held_out)
    may_fall = 0.0 if goal.kind == "worst" else _WORST_TENTH_BELOW
    lowest = _decibels(goal.kind, goal.value) - may_fall + _SAFETY / math.sqrt(count)

    def misses(rung: int, samples: Sequence[_Sample]) -> bool:
        values = _fidelities(goal.kind, runs.at(rung, samples))
        tail = _decibels(goal.kind, _tail(goal.kind, values))
        # written so that a value that is not a number means: missed
        return not (fmean(values) >= goal.value and tail >= lowest)

    loosest = bisect_left(_RUNGS, True, key=lambda rung: misses(rung, fitting)) - 1
    for rung in range(loosest, -1, -1):
        if not misses(rung, fitting) and not misses(rung, held_out):
            return rung
    values = _fidelities(goal.kind, runs.at(0, [*fitting, *held_out]))
    needed = 1 - 10 ** (-lowest / 10) if goal.kind == "ssim" else lowest
    raise CalibrationError(
        f"{goal} is not reached: at the tightest tolerance, {_LADDER[0]:g}, the mean is "
        f"{fmean(values):.4g} and the {'worst' if goal.kind == 'worst' else 'worst tenth'} "
        f"{_tail(goal.kind, values):.4g}, where {count} samples need {needed:.4g}: ask for less, "
        "or give more samples or steps"
    )


def _within_budget(
    goal: Goal, runs: _Runs, fitting: Sequence[_Sample], held_out: Sequence[_Sample]
) -> int:
    """The tightest rung whose mean number of evaluations is within the budget."""

    def mean_nfe(rung: int) -> float:
        return fmean(outcome.nfe for outcome in runs.at(rung, fitting))

    tightest = bisect_left(_RUNGS, True, key=lambda rung: mean_nfe(rung) <= goal.value)
    if tightest < len(_LADDER):
        return tightest
    raise CalibrationError(
        f"{goal} are too few: at the loosest tolerance, {_LADDER[-1]:g}, the mean is "
        f"{mean_nfe(_RUNGS[-1]):.1f}: give a larger budget, or take fewer steps"
    )


# Figures ---------------------------------------------------------------------------------------


def _fidelities(kind: str, outcomes: Sequence[_Outcome]) -> list[float]:
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
    return _IDENTICAL if value >= 1 else -10 * math.log10(1 - value)


def _evidence(outcomes: Sequence[_Outcome], fitting: int) -> Evidence:
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
        speedup=fmean(outcome.steps for outcome in outcomes) / nfe,
    )


def _versions() -> dict[str, str]:
    import diffusers

    return {
        "adaptive_diffusion": __version__,
        "diffusers": diffusers.__version__,
        "torch": str(torch.__version__),
    }
