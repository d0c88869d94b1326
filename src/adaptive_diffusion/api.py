"""The public face: one line to switch on, one to switch off, and two to ask what happened."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.arguments import check_together, tolerance_of
from adaptive_diffusion.errors import PolicyError, ProfileError
from adaptive_diffusion.lessons import Lessons
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy
from adaptive_diffusion.profiles import Profile
from adaptive_diffusion.trajectory import Report

__all__ = ["Run", "accelerate", "disable", "enable", "profile", "report"]


def enable(
    pipe: Any,
    policy: Policy | None = None,
    *,
    tolerance: float | None = None,
    quality: str | None = None,
    profile: Profile | str | os.PathLike[str] | None = None,
    nfe: int | None = None,
    target_psnr: float | None = None,
    learn: int | None = None,
    on_step: StepCallback | None = None,
) -> None:
    """Switches a diffusers pipeline's acceleration on, until `disable`.

    Args:
        pipe: any diffusers pipeline with a denoiser and a scheduler.
        policy: when to call the denoiser; `ErrorControlled()` by default.
        tolerance: short for `policy=ErrorControlled(tolerance=...)`.
        quality: a tolerance by name: "faithful", "balanced" or "fast".
        profile: what `calibrate` found, or the file that it was saved to. Warns where the
            pipeline, or later a call's number of steps or guidance, is not what it was found with.
        nfe: exactly so many denoiser calls for every sample, in each loop of a call. With a
            profile, where they help this model most; without, where they help most models.
        target_psnr: with a profile: the fewest calls that reach this mean PSNR, in dB, by its
            evidence.
        learn: with nfe: the first so many samples are full runs, and teach how this model's outputs
            go together. Later ones have a plan that is made from it. What a sample becomes then
            depends on those made before it, so this is off by default. Two are enough.
        on_step: called after every step with the mask so far (samples × steps, True = computed).

    Enabling again replaces the setting. Nothing is changed if an error is raised.

    Raises:
        PolicyError: on a bad tolerance, quality, nfe or learn, or if more than one of policy,
            tolerance, quality and profile is given; nfe goes alone, with a profile or with learn.
        ProfileError: if the profile's file can't be read, or none of its plans reaches the target.
        UnsupportedPipelineError: if the pipeline can't be accelerated; the message says why.
    """
    if profile is not None and not isinstance(profile, Profile):
        profile = Profile.load(profile)
    choices = {"policy": policy, "tolerance": tolerance, "quality": quality, "profile": profile}
    numbers = {"nfe": nfe, "target_psnr": target_psnr, "learn": learn}
    check_together([name for name, value in (choices | numbers).items() if value is not None])
    if learn is not None:
        assert nfe is not None
        pipelines.enable(pipe, Lessons(nfe, learn, on_step))
        return
    if profile is None:
        chosen = _policy(policy, tolerance, quality, nfe)
        pipelines.enable(pipe, pipelines.Setting(chosen, on_step))
        return
    differences = profile.differences(pipe)
    chosen = profile.policy_for(pipe, nfe, target_psnr)
    for difference in differences:
        warnings.warn(difference, stacklevel=2)
    pipelines.enable(pipe, pipelines.Setting(chosen, on_step, profile))


def disable(pipe: Any) -> None:
    """Switches the acceleration off; the pipeline is exactly what it was before `enable`.

    Does nothing if it was not enabled.
    """
    pipelines.disable(pipe)


def report(pipe: Any) -> Report:
    """What the last accelerated call of the pipeline did.

    Raises:
        NoReportError: if the pipeline has made nothing while it was enabled.
    """
    return pipelines.report(pipe)


def profile(pipe: Any) -> Profile:
    """The profile that an enabled pipeline uses: the one that it was given, or has learned.

    Raises:
        ProfileError: if it uses none, or has not learned one yet; says how many samples are
            missing.
    """
    setting = pipelines.setting_of(pipe)
    if isinstance(setting, Lessons):
        return setting.profile
    if isinstance(setting, pipelines.Setting) and isinstance(setting.calibrated, Profile):
        return setting.calibrated
    raise ProfileError(
        f"{type(pipe).__name__} uses no profile: enable it with profile=, or with nfe= and learn="
    )


class Run:
    """What `accelerate` gives: the generations made inside the `with` block."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        pipelines.forget_report(pipe)

    @property
    def report(self) -> Report:
        """The report of the last generation; raises `NoReportError` if there was none."""
        return report(self._pipe)


@contextmanager
def accelerate(
    pipe: Any,
    policy: Policy | None = None,
    *,
    tolerance: float | None = None,
    quality: str | None = None,
    profile: Profile | str | os.PathLike[str] | None = None,
    nfe: int | None = None,
    target_psnr: float | None = None,
    learn: int | None = None,
    on_step: StepCallback | None = None,
) -> Iterator[Run]:
    """`enable` for the length of a `with` block; an earlier setting comes back after it."""
    before = pipelines.setting_of(pipe)
    enable(
        pipe,
        policy,
        tolerance=tolerance,
        quality=quality,
        profile=profile,
        nfe=nfe,
        target_psnr=target_psnr,
        learn=learn,
        on_step=on_step,
    )
    try:
        yield Run(pipe)
    finally:
        if before is None:
            disable(pipe)
        else:
            pipelines.enable(pipe, before)


def _policy(
    policy: Policy | None, tolerance: float | None, quality: str | None, nfe: int | None
) -> Policy:
    if nfe is not None:
        return Planned(nfe)
    if quality is not None:
        tolerance = tolerance_of(quality)
    if tolerance is not None:
        return ErrorControlled(tolerance=tolerance)
    if policy is None:
        return ErrorControlled()
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy must be a Policy such as ErrorControlled(), not {policy!r}")
    return policy
