"""Makes one sample in the way that a row says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from adaptive_diffusion.apps.bench.learning import Learner
from adaptive_diffusion.apps.bench.rows import FULL, Row
from adaptive_diffusion.apps.bench.suite import OWN_SCHEDULER
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler
from adaptive_diffusion.apps.schedulers import make_scheduler
from adaptive_diffusion.policies import Policy

__all__ = ["Made", "Maker", "using_scheduler"]

_GIB = 2**30


@dataclass(frozen=True)
class Made:
    """What came out.

    Attributes:
        medium: the picture, clip or sound; None if it was not decoded.
        work: for every step of the loop, the share of the full denoiser's work that was done.
        seconds: of the denoising loop.
        memory_gib: the highest use of the GPU's memory; None on other devices.
        learning: evaluations that it took to find the row's policy, on other samples.
    """

    medium: Medium | None
    work: list[float]
    seconds: float
    memory_gib: float | None
    learning: float | None = None

    @property
    def nfe(self) -> float:
        """Denoiser evaluations, or as much work as so many would have been."""
        return sum(self.work)


class Maker:
    """Makes samples with one pipeline and its settings; the first call must be the full run."""

    def __init__(self, sampler: Sampler, learner: Learner) -> None:
        self._sampler = sampler
        self._learner = learner
        self._loop_length = sampler.settings.steps

    def make(self, row: Row, sample: Sample, *, decode: bool) -> Made:
        """Runs the pipeline once, after what the row has to learn."""
        learned = row.learn(self._learner) if row.learn else None
        policy = learned.policy if learned else None
        with using_scheduler(self._sampler.pipe, row.scheduler), _peak_memory(self._device) as peak:
            batch, work = self._run(row, policy, sample, decode)
        if row is FULL:
            self._loop_length = len(work)
        medium = None if batch.made is None else batch.made[0]
        learning = learned.evaluations if learned else None
        return Made(medium, work, batch.seconds, peak[0] if peak else None, learning)

    def _run(
        self, row: Row, policy: Policy | None, sample: Sample, decode: bool
    ) -> tuple[Batch, list[float]]:
        steps = row.steps or self._sampler.settings.steps
        if row.rival is not None:
            with row.rival.applied(self._sampler.pipe, steps) as done:
                batch = self._sampler.run([sample], steps=steps, decode=decode)
            return batch, list(done.per_step)
        if row.policy is not None:
            policy = row.policy(self._loop_length)
        batch = self._sampler.run([sample], policy, steps=steps, decode=decode)
        # a pipeline that steps guidance halves on their own has more than one row per sample
        return batch, [fmean(step) for step in zip(*batch.masks, strict=True)]

    @property
    def _device(self) -> torch.device:
        return self._sampler.pipe.device


@contextmanager
def using_scheduler(pipe: Any, name: str | None) -> Iterator[None]:
    """Another scheduler for the length of a `with` block; without a name, the present one."""
    present = pipe.scheduler
    if name is not None and name != OWN_SCHEDULER:
        pipe.scheduler = make_scheduler(pipe, name)
    try:
        yield
    finally:
        pipe.scheduler = present


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Gives a list that holds the block's peak when the block is over; on CUDA only."""
    peak: list[float] = []
    if device.type != "cuda":
        yield peak
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield peak
    peak.append(torch.cuda.max_memory_allocated(device) / _GIB)
