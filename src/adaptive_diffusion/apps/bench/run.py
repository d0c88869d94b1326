"""Runs a suite: for each model, for each cell, for each sample, every row.

The rows of one sample come one after the other, so that a machine that slows down slows all of
them. Fidelity is measured first, on decoded pictures. The first samples are then made again for the
time alone, without decoding: three rounds through all rows, in which the full run comes again and
again, so that every time is held against one taken shortly before. The medians count.

Rows that have to learn something of the cell do so on samples that would come after the table's:
with seeds of their own and, if there are more prompts than the table has samples, other prompts.

A row that fails is recorded with its error, and the others go on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from adaptive_diffusion.apps.bench.cells import Cell, cells_of
from adaptive_diffusion.apps.bench.fidelity import Judge
from adaptive_diffusion.apps.bench.learning import LEARNING_SAMPLES, Learner
from adaptive_diffusion.apps.bench.progress import BenchProgress
from adaptive_diffusion.apps.bench.prompts import Prompt
from adaptive_diffusion.apps.bench.rows import FULL, Row, all_rows, select
from adaptive_diffusion.apps.bench.store import FeatureStore, Key, Store
from adaptive_diffusion.apps.bench.suite import ALL_MINIATURES, Model, Suite
from adaptive_diffusion.apps.bench.ways import Made, Maker, using_scheduler
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings
from adaptive_diffusion.miniatures import ARGUMENTS, PROMPTS, pipeline_miniatures

__all__ = ["Bench", "expand"]

_ROUNDS = 3
_ROWS_PER_FULL_RUN = 8
_FID_SAMPLES = 64  # with fewer, the distance says nothing


@dataclass
class Bench:
    """A suite to be run, and where it leaves what it finds.

    Attributes:
        prompts: for all models; none leaves each miniature its own.
        timed_samples: how many samples of each cell are timed.
        device: a torch device; a GPU where there is one, by default.
        notes: what was left out, and why; each only once.
        devices: what it ran on.
    """

    suite: Suite
    prompts: Sequence[Prompt]
    store: Store
    features: FeatureStore
    timed_samples: int
    device: str | None = None
    notes: list[str] = field(default_factory=list)
    devices: list[torch.device] = field(default_factory=list)

    def run(self, progress: BenchProgress) -> None:
        """Measures whatever the store has not got yet."""
        models = expand(self.suite.models)
        for index, model in enumerate(models):
            progress.show(f"loading {model.name}")
            options = LoadOptions(device=self.device, dtype=model.dtype, revision=model.revision)
            pipe = load_pipeline(model.name, options)
            if getattr(pipe, "safety_checker", None) is not None:
                pipe.safety_checker = None  # it would blacken some of the pictures to be compared
            if pipe.device not in self.devices:
                self.devices.append(pipe.device)
            studies = list(self._studies(model.name, pipe))
            progress.expect(sum(study.cost for study in studies), len(models) - index - 1)
            for study in studies:
                study.run(progress)

    def note(self, text: str) -> None:
        """Something that the reader of the results should know."""
        if text not in self.notes:
            self.notes.append(text)

    def _studies(self, model: str, pipe: Any) -> Iterator[_Study]:
        judge = Judge(pipe.device, features=self.suite.samples >= _FID_SAMPLES)
        for note in judge.notes:
            self.note(note)
        taken = inspect.signature(type(pipe).__call__).parameters
        arguments = {
            **ARGUMENTS.get(model, {}),
            **self._taken(model, self.suite.arguments, taken),
        }
        count = self.suite.samples
        samples = self._samples(model, taken, count + LEARNING_SAMPLES)
        for cell in cells_of(self.suite, model, pipe):
            with using_scheduler(pipe, cell.scheduler):
                rows, notes = all_rows(pipe, cell.steps)
            for note in notes:
                self.note(f"{model}: {note}")
            settings = Settings(
                cell.steps, cell.guidance, self.suite.size, self.suite.frames, arguments
            )
            sampler = Sampler(pipe, settings)
            if hasattr(pipe, "vae") and not sampler.times_loop_alone:
                self.note(f"{model}: its pipeline always decodes, which is timed, too")
            learner = Learner(sampler, samples[count:])
            rows = select(rows, self.suite.rows)
            yield _Study(self, cell, rows, samples[:count], sampler, learner, judge)

    def _samples(self, model: str, taken: Mapping[str, Any], count: int) -> list[Sample]:
        """Prompts and other values in turn, each sample with a seed of its own."""
        per_sample = self._taken(model, self.suite.per_sample, taken)
        prompts = self.prompts or [Prompt(text) for text in PROMPTS.get(model, ())]
        if "prompt" in taken and not prompts:
            raise ValueError(f"suite {self.suite.name} has no prompts, but {model} needs some")
        samples = []
        for index in range(count):
            own = {name: values[index % len(values)] for name, values in per_sample.items()}
            prompt = prompts[index % len(prompts)] if "prompt" in taken else None
            if prompt is not None and prompt.picture is not None:
                own["image"] = _open_picture(prompt.picture)
            text = None if prompt is None else prompt.text
            samples.append(Sample(text, self.suite.seed + index, own))
        return samples

    def _taken(
        self, model: str, arguments: Mapping[str, Any], taken: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Those of the suite's arguments that the model's pipeline has."""
        for name in arguments:
            if name not in taken:
                self.note(f"{model}: takes no {name}, which was left out")
        return {name: value for name, value in arguments.items() if name in taken}


@dataclass
class _Study:
    """One cell's measurements."""

    bench: Bench
    cell: Cell
    rows: list[Row]
    samples: list[Sample]
    sampler: Sampler
    learner: Learner
    judge: Judge

    def __post_init__(self) -> None:
        self._maker = Maker(self.sampler, self.learner)
        self._timed = self.samples[: self.bench.timed_samples]

    @property
    def cost(self) -> float:
        """About how many denoiser evaluations all of it takes."""
        rounds = len(self.samples) + _ROUNDS * len(self._timed)
        learning = sum(row.learning_runs * self._cost(row) for row in self.rows)
        return rounds * sum(map(self._cost, self.rows)) + learning

    def run(self, progress: BenchProgress) -> None:
        """Measures what is missing."""
        with using_scheduler(self.sampler.pipe, self.cell.scheduler):
            if not self._is_done and not self._warm_up(progress):
                progress.advance(self.cost)
                return
            self.learner.notify = lambda text: progress.show(f"{self.cell.name}: {text}")
            for index, sample in enumerate(self.samples):
                label = f"{self.cell.name}: sample {index + 1} of {len(self.samples)}"
                self._compare(sample, progress, label)
            for index, sample in enumerate(self._timed):
                label = f"{self.cell.name}: timing {index + 1} of {len(self._timed)}"
                self._time(sample, progress, label)

    @property
    def _is_done(self) -> bool:
        compared = all(not self._missing(sample, "psnr_db") for sample in self.samples)
        return compared and all(not self._missing(sample, "seconds") for sample in self._timed)

    def _missing(self, sample: Sample, value: str) -> list[Row]:
        store = self.bench.store
        return [row for row in self.rows if not store.has(self._key(row, sample), value)]

    def _key(self, row: Row, sample: Sample) -> Key:
        return Key.of(self.cell, row, sample)

    def _warm_up(self, progress: BenchProgress) -> bool:
        """Also shows the maker how long the loop is; a cell that can't even do that is given up."""
        progress.show(f"{self.cell.name}: warming up")
        try:
            made = self._maker.make(FULL, self.samples[0], decode=False)
        except Exception as error:
            self.bench.store.add(self._key(FULL, self.samples[0]), error=_first_line(error))
            return False
        progress.estimate(made.seconds / made.nfe)
        return True

    def _compare(self, sample: Sample, progress: BenchProgress, label: str) -> None:
        """Makes the sample in every row's way and says how close each comes to the full run."""
        missing = self._missing(sample, "psnr_db")
        if missing:
            progress.show(f"{label}, {FULL.name}")
            full = self._maker.make(FULL, sample, decode=True)
        for row in self.rows:
            if row in missing:
                progress.show(f"{label}, {row.name}")
                self._measure(row, sample, full)
            progress.advance(self._cost(row))
            if sample is self.samples[0]:
                progress.advance(row.learning_runs * self._cost(row))

    def _measure(self, row: Row, sample: Sample, full: Made) -> None:
        key = self._key(row, sample)
        try:
            made = full if row is FULL else self._maker.make(row, sample, decode=True)
            closeness = self.judge.closeness(_medium(made), _medium(full))
            features = self.judge.features(_medium(made))
        except Exception as error:
            self.bench.store.add(key, error=_first_line(error))
            return
        if features is not None:
            self.bench.features.save(key, features)
        work = [round(share, 3) for share in made.work]
        values = {**closeness, "work": work, "learning": made.learning, "error": None}
        self.bench.store.add(key, nfe=made.nfe, **values)

    def _time(self, sample: Sample, progress: BenchProgress, label: str) -> None:
        """Rounds through the rows; what failed before is left out."""
        missing = self._missing(sample, "seconds")
        has = self.bench.store.has
        rows = [row for row in missing if has(self._key(row, sample), "psnr_db")]
        pairs: dict[str, list[tuple[Made, Made]]] = {row.name: [] for row in rows}
        for round_ in range(_ROUNDS):
            progress.show(f"{label}, round {round_ + 1} of {_ROUNDS}")
            for turn, row in enumerate(self.rows):
                if row in rows:
                    if turn % _ROWS_PER_FULL_RUN == 0 or row is rows[0]:
                        full = self._maker.make(FULL, sample, decode=False)
                    made = full if row is FULL else self._maker.make(row, sample, decode=False)
                    pairs[row.name].append((made, full))
                progress.advance(self._cost(row))
        for row in rows:
            self.bench.store.add(
                self._key(row, sample),
                seconds=median(made.seconds for made, _ in pairs[row.name]),
                full_seconds=median(full.seconds for _, full in pairs[row.name]),
                memory_gib=pairs[row.name][0][0].memory_gib,
            )

    def _cost(self, row: Row) -> float:
        """About how many denoiser evaluations the row takes."""
        return row.steps or row.calls or self.cell.steps / (1 if row is FULL else 2)


def expand(models: Sequence[Model]) -> list[Model]:
    """The models, with every miniature that is a pipeline in place of that word."""
    return [
        replace(model, name=name)
        for model in models
        for name in (pipeline_miniatures() if model.name == ALL_MINIATURES else (model.name,))
    ]


def _medium(made: Made) -> Medium:
    assert made.medium is not None
    return made.medium


def _open_picture(file: Path) -> Image.Image:
    try:
        return Image.open(file).convert("RGB")
    except OSError as error:
        raise ValueError(f"picture {file} can't be read: {error}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
