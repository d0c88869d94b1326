"""Samples become files, call by call. Full runs that teach come first, if they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.apps.choice import Choice, Skipping
from adaptive_diffusion.apps.display import StepProgress
from adaptive_diffusion.apps.learning import Lesson, learned
from adaptive_diffusion.apps.profiles import fingerprint
from adaptive_diffusion.apps.provenance import file_stem, how_made, write_beside
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler

__all__ = ["SampleFiles"]


class SampleFiles:
    """Makes samples and writes them.

    Args:
        sampler: the pipeline with its settings.
        folder: for the files.
        source: the model and what was added to it, by name.
        progress: shows the steps.

    Attributes:
        lines: what was written, to read.
        notes: what the user should know of it.
    """

    def __init__(
        self, sampler: Sampler, folder: Path, source: Mapping[str, str], progress: StepProgress
    ) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._sampler = sampler
        self._folder = folder
        self._source = source
        self._progress = progress

    def make(self, samples: Sequence[Sample], choice: Choice, batch_size: int) -> None:
        """Makes the samples, so many in a call."""
        settings = self._sampler.settings
        skipping = choice.settle(self._sampler.pipe, settings.steps, settings.guidance)
        self._make(samples, skipping, batch_size)

    def learn_and_make(
        self, samples: Sequence[Sample], nfe: int, learn: int, batch_size: int
    ) -> None:
        """Makes the first samples in full; the others in so many calls, by what these taught."""
        teachers, others = samples[:learn], samples[learn:]
        with Lesson(self._sampler.pipe, nfe, learn) as lesson:
            for number, sample in enumerate(teachers, start=1):
                on_step = self._follow(f"{number}/{len(samples)}")
                batch = lesson.run(self._sampler, sample, on_step)
                self._write([sample], batch, Skipping(None), "".join(f"; {n}" for n in batch.notes))
            profile = lesson.profile
        if profile is not None:
            text = json.dumps(profile.to_json(), indent=1) + "\n"
            stem = f"profile-{fingerprint(profile)}"
            path = write_beside(self._folder, stem, ".json", text.encode())
            self.lines.append(f"{path}  what they taught, for --profile")
        self._make(others, learned(profile, nfe), batch_size, begun=len(teachers))

    def _make(
        self, samples: Sequence[Sample], skipping: Skipping, batch_size: int, begun: int = 0
    ) -> None:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            on_step = self._follow(f"{begun + start + len(batch)}/{begun + len(samples)}")
            result = self._sampler.run(batch, skipping.policy, on_step=on_step)
            self._write(batch, result, skipping)
            self._note(*skipping.notes, *result.notes)

    def _write(
        self, samples: Sequence[Sample], batch: Batch, skipping: Skipping, said: str = ""
    ) -> None:
        assert batch.made is not None
        source = {**self._source, **skipping.source}
        for sample, medium, mask in zip(samples, batch.made, batch.masks, strict=True):
            entries = how_made(sample, medium, mask, skipping.policy, self._sampler, source)
            content = medium.encode(entries)
            path = write_beside(self._folder, file_stem(sample), medium.suffix, content)
            self.lines.append(f"{path}  {sum(mask)} of {len(mask)} steps computed{said}")

    def _note(self, *notes: str) -> None:
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def _follow(self, label: str) -> StepCallback:
        return self._progress.follow(label, self._sampler.settings.steps)
