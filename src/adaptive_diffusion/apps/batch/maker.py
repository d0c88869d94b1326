"""Makes the pictures of a call and writes them: the same work wherever an engine has it done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_diffusion.apps.batch.jobs import Job
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.batch.outputs import Outputs
from adaptive_diffusion.apps.choice import Choice
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.inputs import open_picture
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.provenance import how_made, mask_text
from adaptive_diffusion.apps.record import to_json
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.miniatures import ARGUMENTS
from adaptive_diffusion.policies import Policy

__all__ = ["Maker", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        steps: that were asked for.
        computed: for every step of the loop, whether the denoiser was called; empty if the picture
            was there before, or failed.
        error: why it failed, or None.
        notes: what the user should know.
    """

    key: str
    steps: int
    computed: tuple[bool, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()


class Maker:
    """A pipeline at work; it is loaded when the first picture is made.

    Args:
        model: makes the pictures.
        outputs: where they go.
    """

    def __init__(self, model: Model, outputs: Outputs) -> None:
        self._model = model
        self.outputs = outputs
        self._policies: dict[Choice, Policy | None] = {}

    def make(self, jobs: Mapping[str, Job]) -> list[Outcome]:
        """Makes the pictures of jobs with equal settings, but those that are there, in one call.

        If the call fails, each is tried alone, and what fails again is recorded with the reason.

        Raises:
            ValueError: if the model can't be loaded.
            OutputError: if something can't be written.
        """
        missing = {key: job for key, job in jobs.items() if not self.outputs.is_made(key)}
        there = [Outcome(key, job.steps) for key, job in jobs.items() if key not in missing]
        return there + (self._make(missing) if missing else [])

    def fail(self, key: str, job: Job, reason: str) -> Outcome:
        """Records that the job could not be done."""
        self.outputs.add(key, self._record(key, job, {"error": reason}), None)
        return Outcome(key, job.steps, error=reason)

    @cached_property
    def _pipe(self) -> Any:
        return self._model.load()

    def _policy(self, choice: Choice) -> Policy | None:
        """The same for all calls, so that plans are made once."""
        if choice not in self._policies:
            self._policies[choice] = choice.policy_for(self._pipe)
        return self._policies[choice]

    def _make(self, jobs: Mapping[str, Job]) -> list[Outcome]:
        pipe = self._pipe
        try:
            made = self._run(pipe, list(jobs.values()))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if len(jobs) == 1:
                return [self.fail(key, job, reason) for key, job in jobs.items()]
        else:
            return [
                self._keep(key, job, each)
                for (key, job), each in zip(jobs.items(), made, strict=True)
            ]
        return [outcome for key, job in jobs.items() for outcome in self._make({key: job})]

    def _run(self, pipe: Any, jobs: Sequence[Job]) -> list[_Made]:
        settings = replace(jobs[0].settings, arguments=ARGUMENTS.get(self._model.name, {}))
        sampler = Sampler(pipe, settings)
        samples = [_sample(sampler, job) for job in jobs]
        batch = sampler.run(samples, self._policy(jobs[0].choice))
        assert batch.made is not None
        return [
            _Made(sample, medium, mask, batch.seconds / len(jobs), batch.notes, sampler)
            for sample, medium, mask in zip(samples, batch.made, batch.masks, strict=True)
        ]

    def _keep(self, key: str, job: Job, made: _Made) -> Outcome:
        if not np.isfinite(made.medium.frames).all():
            return self.fail(key, job, "the model gave values that are no numbers (NaN)")
        source = {"model": self._model.name, **self._model.options.describe()}
        source |= job.choice.source
        policy = self._policy(job.choice)
        entries = how_made(made.sample, made.medium, made.mask, policy, made.sampler, source)
        details = {
            "nfe": sum(made.mask),
            "mask": mask_text(made.mask),
            "seconds": made.seconds,
            "notes": made.notes,
            "error": None,
        }
        content, suffix = made.medium.encode(entries), made.medium.suffix
        self.outputs.add(key, self._record(key, job, details), content, suffix)
        misfits = job.choice.misfits(self._pipe, job.steps)
        return Outcome(key, job.steps, tuple(made.mask), notes=(*misfits, *made.notes))

    def _record(self, key: str, job: Job, details: Mapping[str, Any]) -> str:
        made_by = {
            "model": self._model.name,
            "fingerprint": self._model.fingerprint,
            "pipeline": type(self._pipe).__name__,
            "scheduler": type(self._pipe.scheduler).__name__,
            "device": describe_device(self._pipe.device),
            "dtype": self._model.options.dtype,
            "versions": versions(),
        }
        return to_json({"key": key, **job.describe(), **made_by, **details})


@dataclass(frozen=True)
class _Made:
    """One of a call's pictures; seconds are its share of the call's denoising and decoding."""

    sample: Sample
    medium: Medium
    mask: Sequence[bool]
    seconds: float
    notes: tuple[str, ...]
    sampler: Sampler


def _sample(sampler: Sampler, job: Job) -> Sample:
    prompts = [] if job.prompt is None else [job.prompt]
    [sample] = sampler.plan(prompts, 1, job.seed)
    own: dict[str, Any] = {}
    if job.negative_prompt is not None:
        own["negative_prompt"] = job.negative_prompt
    if job.control_image is not None:
        own[sampler.control_parameter] = open_picture(Path(job.control_image))
    return replace(sample, arguments=own)
