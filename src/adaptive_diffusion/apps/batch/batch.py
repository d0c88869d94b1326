"""A file of prompts becomes a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from adaptive_diffusion.apps.batch.jobs import Job, calls_of, key_of
from adaptive_diffusion.apps.batch.lessons import assign_lessons
from adaptive_diffusion.apps.batch.maker import Maker, Outcome
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.batch.outputs import Outputs
from adaptive_diffusion.apps.batch.progress import BatchProgress
from adaptive_diffusion.apps.batch.prompts_file import Line

__all__ = ["Engine", "Summary", "run_batch"]

Engine = Callable[[Maker, Sequence[Mapping[str, Job]]], Iterator[Outcome]]
"""Has a maker make all calls, somewhere, and tells what became of each job."""

_MOST_FAILURES = 5  # shown one by one


@dataclass
class Summary:
    """What a run did.

    Attributes:
        lines: in the file.
        pictures: that they ask for; equal lines ask for one.
        there: that were there before.
        outcomes: of the others.
    """

    lines: int
    pictures: int
    there: int
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of those that could not be made."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def __str__(self) -> str:
        failed = self.failed
        counts = [f"{len(self.outcomes) - len(failed)} made"]
        if self.there:
            counts.append(f"{self.there} there before")
        if failed:
            counts.append(f"{len(failed)} failed")
        lines = [f"{self.pictures} pictures: {', '.join(counts)}"]
        if self.lines > self.pictures:
            lines.append(f"{self.lines - self.pictures} of {self.lines} lines repeat others")
        masks = [outcome.computed for outcome in self.outcomes if outcome.computed]
        if masks:
            computed, steps = (sum(map(count, masks)) for count in (sum, len))
            lines.append(f"{computed} of {steps} steps computed: {steps / computed:.2f}x fewer")
        notes = dict.fromkeys(note for outcome in self.outcomes for note in outcome.notes)
        lines += [f"note: {note}" for note in notes]
        lines += [f"failed: {each.key}.json: {each.error}" for each in failed[:_MOST_FAILURES]]
        if len(failed) > _MOST_FAILURES:
            lines.append(f"and {len(failed) - _MOST_FAILURES} more")
        if failed:
            lines.append("the same command tries the failed ones again")
        return "\n".join(lines)


def run_batch(
    file: Path,
    lines: Sequence[Line],
    model: Model,
    outputs: Outputs,
    engine: Engine,
    *,
    batch_size: int,
    console: Console,
    learn: int | None = None,
) -> Summary:
    """Makes what is not there yet.

    Args:
        file: that the lines are from.
        lines: what is wanted.
        model: makes the pictures.
        outputs: where they go.
        engine: has the work done.
        batch_size: pictures of a call.
        console: shows how far it is.
        learn: how many of the pictures with equal settings teach the plans of the others.

    Raises:
        ValueError: if the model can't be loaded.
        OutputError: if the folder can't be written to, or another run writes to it.
    """
    wanted = [line.job for line in lines]
    if learn is not None:
        wanted = assign_lessons(wanted, learn, model)
    keys = [key_of(job, model) for job in wanted]
    jobs = dict(zip(keys, wanted, strict=True))
    with outputs.claimed():
        outputs.add_manifest(file.stem, _manifest(lines, keys))
        made = outputs.made()
        lessons = _due_lessons(jobs, outputs, made)
        teaching = {key for lesson in lessons for key in lesson}
        plain = {key: job.without_lesson for key, job in jobs.items()}
        calls = calls_of(plain, batch_size, made | teaching)
        missing = [
            job for call in (*lessons, *calls) for key, job in call.items() if key not in made
        ]
        summary = Summary(len(lines), len(jobs), len(jobs) - len(missing))
        if missing:
            steps = sum(job.steps for job in missing)
            try:
                with BatchProgress(console, len(missing), steps) as progress:
                    maker = Maker(model, outputs)
                    for stage in filter(None, (lessons, calls)):
                        for outcome in engine(maker, stage):
                            summary.outcomes.append(outcome)
                            progress.advance(outcome)
            except KeyboardInterrupt:
                there = len(outputs.made() & jobs.keys())
                console.print(f"{there} of {len(jobs)} pictures are made: run it again to continue")
                raise
    return summary


def _due_lessons(
    jobs: Mapping[str, Job], outputs: Outputs, made: Collection[str]
) -> list[dict[str, Job]]:
    """The calls that teach: those of which a picture that is missing is to learn."""
    learning = {job.learns for key, job in jobs.items() if job.learns and key not in made}
    lessons: dict[str, dict[str, Job]] = {}
    for key, job in jobs.items():
        if job.teaches and job.teaches in learning and not outputs.has_lesson(job.teaches):
            lessons.setdefault(job.teaches, {})[key] = job
    return list(lessons.values())


def _manifest(lines: Sequence[Line], keys: Sequence[str]) -> str:
    """Which line has which key: known beforehand, so that it is right whenever a run ends."""
    entries = [
        {"line": line.number, "id": line.id, "key": key, "prompt": line.job.prompt}
        for line, key in zip(lines, keys, strict=True)
    ]
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
