"""Pictures to be made, and the key that each is kept under.

The key is a hash of what decides a picture:

- the model, by the content of its files or its commit on the hub; its scheduler and number type;
- the prompts, seed, steps, guidance, size, frames, the control image by its content, and the policy
  with its settings and what was measured for its plans, or which pictures taught them;
- the versions of this package, which decides what is skipped, and of diffusers, whose pipelines and
  schedulers do the rest.

Left out is what changes a picture only by float rounding: device, threads, the other samples of the
call, the versions of torch and transformers. So another machine can continue a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.batch.model import Model, digest
from adaptive_diffusion.apps.choice import Choice
from adaptive_diffusion.apps.environment import versions
from adaptive_diffusion.apps.sampling import Settings

__all__ = ["Job", "calls_of", "key_of"]

_KEY_LENGTH = 32  # hexadecimal digits: 128 bits
_DECISIVE = ("adaptive_diffusion", "diffusers")


@dataclass(frozen=True)
class Job:
    """One picture, as it was asked for; None leaves a choice to the model or its pipeline.

    Attributes:
        choice: what decides which denoiser calls are skipped.
        control_image: file of the picture that a ControlNet goes by.
        size: width and height in pixels.
        learns: the lesson that its plan is made from, or None.
        teaches: the lesson that it is a part of, or None. Then it is a full run, and the choice is
            that of the others.
    """

    prompt: str | None
    seed: int
    steps: int
    choice: Choice
    negative_prompt: str | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None
    control_image: str | None = None
    learns: str | None = None
    teaches: str | None = None

    @property
    def settings(self) -> Settings:
        """What it has to have in common with the others of a call."""
        return Settings(self.steps, self.guidance, self.size, self.frames)

    @property
    def without_lesson(self) -> Job:
        """The same, if what it teaches is known already, or not wanted."""
        return replace(self, choice=Choice(None), teaches=None) if self.teaches else self

    def describe(self) -> dict[str, Any]:
        """All that decides it, as JSON takes it."""
        lesson = {} if self.learns is None else {"learns": self.learns}
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": self.size,
            "frames": self.frames,
            "control_image": self.control_image,
            "policy": None if self.teaches else self.choice.describe(),
            **lesson,
        }


def key_of(job: Job, model: Model) -> str:
    """The name of the job's files, without suffix."""
    control = None if job.control_image is None else digest(Path(job.control_image))
    decides = {
        **job.describe(),
        "control_image": control,
        "model": model.fingerprint,
        "scheduler": model.options.scheduler,
        "dtype": model.options.dtype,
        "versions": {package: versions()[package] for package in _DECISIVE},
    }
    text = json.dumps(decides, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def calls_of(jobs: Mapping[str, Job], size: int, made: Collection[str]) -> list[dict[str, Job]]:
    """Jobs by key, in calls of `size` with equal settings; those made already are left out.

    They are left out of calls that are the same for every run of a file: who shares a call decides
    the rounding, and a run that was interrupted is to give what it would have given.
    """
    alike: dict[Any, list[str]] = {}
    for key, job in jobs.items():
        has = (job.negative_prompt is None, job.control_image is None)
        alike.setdefault((job.settings, job.choice, has), []).append(key)
    calls = [
        {key: jobs[key] for key in keys[start : start + size] if key not in made}
        for keys in alike.values()
        for start in range(0, len(keys), size)
    ]
    return [call for call in calls if call]
