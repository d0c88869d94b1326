"""What truly happened in a run, written down by the pipeline's own parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Log", "Step"]

Question = tuple[Any, ...]  # which branches a call has, and the version of every sample's condition


@dataclass
class Step:
    """One step of a sampling loop.

    Attributes:
        begins: whether it is its loop's first.
        questions: per call of the denoiser, its branches and the version of each sample's
            condition.
        blocks: per call, how many rows of each sample it has.
        computed: rows that went through the denoiser for the loop.
    """

    begins: bool
    questions: list[Question] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0


class Log:
    """The steps of one run, and what its callbacks were told.

    Attributes:
        steps: in the order in which they were taken.
        own_question: whether a callback is asking the denoiser something now.
        faults: what a callback got that is not so.
        seen: what callbacks were given: previews, and answers to their own questions.
        generators: that the run has made.
        drawn: the noise of every stream and timestep.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.own_question = False
        self.faults: list[str] = []
        self.seen: list[Tensor] = []
        self.generators: list[torch.Generator] = []
        self.drawn: dict[tuple[int, float], Tensor] = {}

    def __deepcopy__(self, _: Any) -> Log:
        return self

    @property
    def asking(self) -> list[Step]:
        """The steps at which the loop wants something of its denoiser."""
        return [step for step in self.steps if step.questions]

    def clear(self) -> None:
        self.steps.clear()
        self.faults.clear()
        self.seen.clear()
        self.generators.clear()
        self.own_question = False

    def computes(self, rows: int) -> None:
        """The denoiser runs on that many rows."""
        if self.steps and not self.own_question:
            self.steps[-1].computed += rows

    def news(self, samples: int) -> list[list[bool]]:
        """For each sample and asking step, whether something is asked that wasn't the step before.

        Such a step can't be skipped: there is nothing to reuse.
        """
        return self._compared(samples, lambda before, now: not now <= before)

    def changes(self, samples: int) -> list[list[bool]]:
        """For each sample and asking step, whether it asks something else than the step before."""
        return self._compared(samples, lambda before, now: now != before)

    def _compared(
        self, samples: int, differ: Callable[[Counter[Question], Counter[Question]], bool]
    ) -> list[list[bool]]:
        found: list[list[bool]] = [[] for _ in range(samples)]
        before: list[Counter[Question]] = [Counter() for _ in range(samples)]
        for step in self.asking:
            for sample in range(samples):
                now = Counter((branches, versions[sample]) for branches, versions in step.questions)
                found[sample].append(step.begins or differ(before[sample], now))
                before[sample] = now
        return found
