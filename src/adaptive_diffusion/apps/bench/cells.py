"""A cell of the benchmark: one model with one scheduler, number of steps and guidance.

All pictures of a cell are compared with the full run of that cell. A cell that its model can't have
(a flow's scheduler on a diffusion model, guidance where there is none) is left out by rule.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from adaptive_diffusion.apps.bench.suite import OWN_SCHEDULER, Suite
from adaptive_diffusion.apps.schedulers import make_scheduler
from adaptive_diffusion.miniatures import GUIDANCE

__all__ = ["Cell", "cells_of"]


@dataclass(frozen=True)
class Cell:
    """Guidance is None where the model has none, or is left to the pipeline.

    A miniature gets its own unless the suite says another.
    """

    model: str
    scheduler: str
    steps: int
    guidance: float | None

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.group}, {self.setting}"

    @property
    def group(self) -> str:
        """Model and scheduler."""
        return f"{self.model}, {self.scheduler}"

    @property
    def setting(self) -> str:
        """What tells the cells of a group apart."""
        guidance = "" if self.guidance is None else f", guidance {self.guidance:g}"
        return f"{self.steps} steps{guidance}"

    @property
    def file_stem(self) -> str:
        """Of the group, for files."""
        return re.sub(r"[^\w+-]+", "-", f"{self.model}-{self.scheduler}".strip("./"))


def cells_of(suite: Suite, model: str, pipe: Any) -> Iterator[Cell]:
    """The cells of a loaded model, scheduler by scheduler."""
    has_guidance = "guidance_scale" in inspect.signature(type(pipe).__call__).parameters
    for scheduler in suite.schedulers:
        if _fits(pipe, scheduler):
            for steps in suite.steps:
                for guidance in suite.guidance if has_guidance else (None,):
                    chosen = GUIDANCE.get(model) if has_guidance and guidance is None else guidance
                    yield Cell(model, scheduler, steps, chosen)


def _fits(pipe: Any, scheduler: str) -> bool:
    if scheduler == OWN_SCHEDULER:
        return True
    try:
        make_scheduler(pipe, scheduler)
    except ValueError:
        return False
    return True
