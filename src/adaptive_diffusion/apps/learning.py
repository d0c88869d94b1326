"""The first samples of a run are full runs that teach; the others have a plan made from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.adapters.diffusers.pipelines import disable, enable, report
from adaptive_diffusion.apps.choice import Skipping
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.lessons import Lessons
from adaptive_diffusion.policies import Planned
from adaptive_diffusion.profiles import Profile

__all__ = ["Lesson", "learned"]


class Lesson:
    """The time in which a pipeline's samples teach; a context manager.

    Args:
        pipe: the pipeline.
        nfe: how many denoiser calls later samples make.
        samples: how many are to teach.
    """

    def __init__(self, pipe: Any, nfe: int, samples: int) -> None:
        self._pipe = pipe
        self._lessons = Lessons(nfe, samples, self._see)
        self._on_step: StepCallback | None = None

    def __enter__(self) -> Lesson:
        enable(self._pipe, self._lessons)
        return self

    def __exit__(self, *_: object) -> None:
        disable(self._pipe)

    def run(self, sampler: Sampler, sample: Sample, on_step: StepCallback | None = None) -> Batch:
        """Makes a sample of the pipeline in full; its notes say whether it taught.

        By itself, so that it counts as one also where a batch is decided as a whole.
        """
        if self._lessons.have_ended:  # early: rows taught enough, or nothing can be learned
            disable(self._pipe)
            return sampler.run([sample], on_step=on_step)
        self._on_step = on_step
        batch = sampler.run([sample])
        return replace(batch, notes=tuple(report(self._pipe).notes))

    @property
    def profile(self) -> Profile | None:
        """What the samples have taught; None if that is nothing."""
        try:
            return self._lessons.profile
        except ProfileError:
            return None

    def _see(self, mask: list[list[bool]]) -> None:
        if self._on_step is not None:
            self._on_step(mask)


def learned(profile: Profile | None, nfe: int) -> Skipping:
    """How later samples are accelerated, by what was learned."""
    if profile is None:
        return Skipping(Planned(nfe), ("nothing was learned: calls are nearly even",))
    said = str(replace(profile, nfe=nfe))
    return Skipping(profile.policy(nfe), (said,), profile)
