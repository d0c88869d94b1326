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
from adaptive_diffusion.apps.choice import Skipping
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.inputs import open_picture
from adaptive_diffusion.apps.learning import Lesson, learned
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.provenance import how_made, mask_text
from adaptive_diffusion.apps.record import to_json
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler
from adaptive_diffusion.miniatures import ARGUMENTS
from adaptive_diffusion.policies import Planned

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

    def make(self, jobs: Mapping[str, Job]) -> list[Outcome]:
        """Makes the pictures of jobs with equal settings, but those that are there, in one call.

        If the call fails, each is tried alone, and what fails again is recorded with the reason.
        Jobs that teach are made one by one, also those that are there. What they taught is kept.

        Raises:
            ValueError: if the model can't be loaded.
            OutputError: if something can't be written.
        """
        lesson = next(iter(jobs.values())).teaches
        if lesson is not None:
            return self._teach(lesson, jobs)
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

    def _teach(self, lesson: str, jobs: Mapping[str, Job]) -> list[Outcome]:
        """What was learned is kept if all of the jobs could be done."""
        first = next(iter(jobs.values()))
        outcomes = []
        is_complete = True
        with Lesson(self._pipe, _calls(first), len(jobs)) as teaching:
            for key, job in jobs.items():
                is_there = self.outputs.is_made(key)
                try:
                    sampler = self._sampler(job)
                    sample = _sample(sampler, job)
                    [made] = _made([sample], teaching.run(sampler, sample), sampler, Skipping(None))
                except Exception as error:
                    is_complete = False
                    if not is_there:
                        outcomes.append(self.fail(key, job, _reason(error)))
                    continue
                if not is_there:
                    outcomes.append(self._keep(key, job, made))
                    is_complete = is_complete and outcomes[-1].error is None
        if is_complete:
            self.outputs.add_lesson(lesson, teaching.profile)
        return outcomes

    def _make(self, jobs: Mapping[str, Job]) -> list[Outcome]:
        _ = self._pipe  # a model that can't be loaded is no failure of a job
        try:
            made = self._run(list(jobs.values()))
        except Exception as error:
            if len(jobs) == 1:
                return [self.fail(key, job, _reason(error)) for key, job in jobs.items()]
        else:
            return [
                self._keep(key, job, each)
                for (key, job), each in zip(jobs.items(), made, strict=True)
            ]
        return [outcome for key, job in jobs.items() for outcome in self._make({key: job})]

    def _run(self, jobs: Sequence[Job]) -> list[_Made]:
        sampler = self._sampler(jobs[0])
        skipping = self._skipping(jobs[0])
        samples = [_sample(sampler, job) for job in jobs]
        return _made(samples, sampler.run(samples, skipping.policy), sampler, skipping)

    def _sampler(self, job: Job) -> Sampler:
        arguments = ARGUMENTS.get(self._model.name, {})
        return Sampler(self._pipe, replace(job.settings, arguments=arguments))

    def _skipping(self, job: Job) -> Skipping:
        if job.learns is None:
            return job.choice.settle(self._pipe, job.steps, job.guidance)
        return learned(self.outputs.learned(job.learns), _calls(job))

    def _keep(self, key: str, job: Job, made: _Made) -> Outcome:
        if not np.isfinite(made.medium.frames).all():
            return self.fail(key, job, "the model gave values that are no numbers (NaN)")
        source = {"model": self._model.name, **self._model.options.describe()}
        source |= made.skipping.source
        policy = made.skipping.policy
        entries = how_made(made.sample, made.medium, made.mask, policy, made.sampler, source)
        details = {
            "policy": made.skipping.describe(),
            "nfe": sum(made.mask),
            "mask": mask_text(made.mask),
            "seconds": made.seconds,
            "notes": made.notes,
            "error": None,
        }
        content, suffix = made.medium.encode(entries), made.medium.suffix
        self.outputs.add(key, self._record(key, job, details), content, suffix)
        said = [note if job.teaches is None else f"{key}.json {note}" for note in made.notes]
        return Outcome(key, job.steps, tuple(made.mask), notes=tuple(said))

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
    skipping: Skipping


def _made(
    samples: Sequence[Sample], batch: Batch, sampler: Sampler, skipping: Skipping
) -> list[_Made]:
    """What came of a call."""
    assert batch.made is not None
    seconds, notes = batch.seconds / len(samples), (*skipping.notes, *batch.notes)
    return [
        _Made(sample, medium, mask, seconds, notes, sampler, skipping)
        for sample, medium, mask in zip(samples, batch.made, batch.masks, strict=True)
    ]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _calls(job: Job) -> int:
    assert isinstance(job.choice.policy, Planned)
    return job.choice.policy.nfe


def _sample(sampler: Sampler, job: Job) -> Sample:
    prompts = [] if job.prompt is None else [job.prompt]
    [sample] = sampler.plan(prompts, 1, job.seed)
    own: dict[str, Any] = {}
    if job.negative_prompt is not None:
        own["negative_prompt"] = job.negative_prompt
    if job.control_image is not None:
        own[sampler.control_parameter] = open_picture(Path(job.control_image))
    return replace(sample, arguments=own)
