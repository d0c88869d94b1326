"""Samples of a pipeline: made in full and accelerated, and how close the two are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers.components import sampling_rate
from adaptive_diffusion.api import accelerate
from adaptive_diffusion.errors import CalibrationError
from adaptive_diffusion.numerics.metrics import SMALLEST_SSIM, psnr, ssim
from adaptive_diffusion.numerics.spectrogram import spectrogram
from adaptive_diffusion.policies import Policy

__all__ = ["IDENTICAL", "Outcome", "Sample", "Trials", "check_call", "choose_samples"]

IDENTICAL = 100.0
"""What a sample counts that is the full run's to the last bit, in dB."""

_FEWEST_SAMPLES = 4  # two to fit to, two to hold out
_OURS = ("prompt", "generator", "output_type", "return_dict")


@dataclass(frozen=True)
class Sample:
    """What one run is asked for."""

    prompt: str | None
    seed: int


@dataclass(frozen=True)
class Outcome:
    """One accelerated run, against the full one: fidelities are means over the frames."""

    psnr: float
    ssim: float | None
    nfe: float
    steps: int


class Trials:
    """The runs of a pipeline: each sample in full, and under a policy, once."""

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any],
        notify: Callable[[str], None],
        needs_ssim: bool = False,
    ) -> None:
        self._pipe = pipe
        self._call = call
        self._notify = notify
        self._needs_ssim = needs_ssim
        self._full: dict[Sample, Tensor] = {}
        self._outcomes: dict[tuple[Policy, Sample], Outcome] = {}

    def make_full(self, samples: Sequence[Sample]) -> None:
        """Makes what the accelerated runs are held against, as far as it is not kept already."""
        missing = [sample for sample in samples if sample not in self._full]
        for index, sample in enumerate(missing):
            self._notify(f"full run {index + 1} of {len(missing)}")
            self.keep_full(sample, self.run(sample))

    def keep_full(self, sample: Sample, pictures: Tensor) -> None:
        """Takes in what a full run has made."""
        if self._needs_ssim and not _has_ssim(pictures):
            height, width = pictures.shape[-2:]
            raise CalibrationError(
                f"pictures of {width}x{height} pixels are too small for an SSIM: give target_psnr"
            )
        self._full[sample] = pictures

    def under(self, policy: Policy, samples: Sequence[Sample]) -> list[Outcome]:
        """The samples' outcomes under a policy."""
        for index, sample in enumerate(samples):
            if (policy, sample) not in self._outcomes:
                self._notify(f"{policy}: run {index + 1} of {len(samples)}")
                self._outcomes[policy, sample] = self._accelerated(policy, sample)
        return [self._outcomes[policy, sample] for sample in samples]

    def _accelerated(self, policy: Policy, sample: Sample) -> Outcome:
        with accelerate(self._pipe, policy) as run:
            pictures = self.run(sample)
        full, report = self._full[sample], run.report
        if not report.steps:
            raise CalibrationError(f"{type(self._pipe).__name__} ran no denoising loop: {report}")
        return Outcome(
            psnr=float(psnr(pictures, full).clamp(max=IDENTICAL).mean()),
            ssim=float(ssim(pictures, full).mean()) if _has_ssim(full) else None,
            nfe=fmean(report.nfe),
            steps=report.steps,
        )

    def run(self, sample: Sample) -> Tensor:
        """One sample's picture, its frames, or its channels' spectrograms: `(F, C, H, W)`, values
        from 0 to 1."""
        return _pictures(self._pipe(**_arguments(sample, self._call)), self._pipe)


def choose_samples(prompts: Sequence[str] | int, seed: int) -> list[Sample]:
    """One for each prompt, or so many without.

    Raises:
        CalibrationError: if there are too few, or no texts.
    """
    asked = [None] * prompts if isinstance(prompts, int) else list(prompts)
    if isinstance(prompts, str) or not all(each is None or isinstance(each, str) for each in asked):
        raise CalibrationError("prompts must be a list of texts, or how many samples to make")
    if len(asked) < _FEWEST_SAMPLES:
        raise CalibrationError(
            f"{len(asked)} samples are too few: give at least {_FEWEST_SAMPLES}, better 16"
        )
    return [Sample(prompt, seed + index) for index, prompt in enumerate(asked)]


def check_call(pipe: Any, sample: Sample, call: dict[str, Any]) -> None:
    """Raises `CalibrationError` if the pipeline can't be called so."""
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


def _arguments(sample: Sample, call: dict[str, Any]) -> dict[str, Any]:
    prompt = {} if sample.prompt is None else {"prompt": sample.prompt}
    generator = torch.Generator("cpu").manual_seed(sample.seed)
    return call | prompt | {"generator": generator, "output_type": "np"}


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
