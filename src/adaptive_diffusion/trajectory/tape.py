"""Doing skipped solver steps again, once their outputs can be interpolated.

The tape holds the solver's steps since the earliest one that some sample has skipped and not yet
corrected, however many those are: the state before the first, and of each its output and what the
pipeline changed in the sample after it. Playing it costs no denoiser call. What it keeps of samples
are copies: some pipelines write into theirs between the steps.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adaptive_diffusion.numerics.rows import select_rows

__all__ = ["SolverStep", "Tape"]


_TRIALS = 2  # one may repeat by chance


class SolverStep(Protocol):
    """One step of a solver, which can be taken again with the same noise."""

    drew_noise: bool

    def state(self) -> Any:
        """A copy of the solver's present state."""

    def restore(self, state: Any) -> None:
        """Puts the solver back into a state."""

    def run(self, output: Tensor, sample: Tensor) -> Tensor:
        """The next sample."""


@dataclass
class _Entry:
    index: int
    step: SolverStep
    output: Tensor
    pending: list[bool]  # for each sample: its output was a forecast, and is one still
    shift: Tensor | None = None  # what the pipeline added to the result, if anything


class _HandedOut:
    """A tensor that somebody else has now, and may change."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = weakref.ref(tensor)
        self._version = None if tensor.is_inference() else tensor._version

    def is_still(self, tensor: Tensor) -> bool:
        """Whether that is the same tensor, and known not to have been written into."""
        return (
            tensor is self._tensor()
            and self._version is not None
            and tensor._version == self._version
        )


class Tape:
    """The steps to be taken again, from the earliest forecast that still stands.

    A solver may have a memory that its state does not show, or noise of its own. So the first two
    times steps are taken again, they are taken as they were before; if they lead elsewhere, none
    ever is.

    Attributes:
        repeats: whether the same steps lead to the same sample; None until that was tried.
    """

    def __init__(self) -> None:
        self.repeats: bool | None = None
        self._trials = _TRIALS
        self._entries: list[_Entry] = []
        self._start: tuple[Any, Tensor] | None = None
        self._result: Tensor | None = None
        self._handed_out: _HandedOut | None = None

    def awaits(self, mask: list[bool]) -> bool:
        """Whether a sample in `mask` has forecasts on the tape."""
        return any(
            waiting and computed
            for entry in self._entries
            for waiting, computed in zip(entry.pending, mask, strict=True)
        )

    def arrive(self, sample: Tensor) -> None:
        """Notes what the pipeline did to the last result before it came back as `sample`."""
        if self._entries and not (self._handed_out and self._handed_out.is_still(sample)):
            assert self._result is not None
            self._entries[-1].shift = sample - self._result

    def record(
        self,
        index: int,
        step: SolverStep,
        output: Tensor,
        sample: Tensor,
        pending: list[bool],
        kept: Tensor | None = None,
    ) -> Tensor:
        """Takes a step and keeps it, if it or one before it holds a forecast.

        `kept` is the same as `output`, where that may be written into.
        """
        if not self._entries:
            if not any(pending):
                return step.run(output, sample)
            self._start = (step.state(), sample.detach().clone())
        self._entries.append(_Entry(index, step, output if kept is None else kept, pending))
        result = step.run(output, sample)
        self._result = result.detach().clone()  # some pipelines write into what they are given
        self._handed_out = _HandedOut(result)
        return result

    def forget(self) -> None:
        """Nothing is taken again: the forecasts stand."""
        self._entries, self._start, self._result = [], None, None

    def replay(
        self, sample: Tensor, known: list[bool], better: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Takes the steps again with better outputs, and corrects `sample` by the difference.

        Args:
            sample: what enters the step after the last one on the tape.
            known: the samples whose forecasts are to be replaced.
            better: `better(index, output, sample)` is the better output of step `index`.

        Returns:
            The corrected sample; the solver is left in the state that belongs to it. If its steps
            do not repeat, both are left as they are.
        """
        assert self._start is not None
        assert self._result is not None
        if self._trials and self.repeats is not False:
            self._trials -= 1
            self.repeats = self._try()
        if not self.repeats:
            self.forget()
            return sample
        state, current = self._start
        self._entries[0].step.restore(state)
        kept: list[_Entry] = []
        for entry in self._entries:
            made_good = [p and k for p, k in zip(entry.pending, known, strict=True)]
            entry.pending = [p and not k for p, k in zip(entry.pending, known, strict=True)]
            if any(entry.pending) and not kept:
                self._start = (entry.step.state(), current)
            if any(entry.pending) or kept:
                kept.append(entry)
            if any(made_good):
                output = better(entry.index, entry.output, current)
                entry.output = select_rows(made_good, output, entry.output)
            result = entry.step.run(entry.output, current)
            current = result if entry.shift is None else result + entry.shift
        corrected = (sample.float() + (result.float() - self._result.float())).to(sample.dtype)
        self._entries, self._result = kept, corrected
        if not kept:
            self._start = self._result = None
        return corrected

    def _try(self) -> bool:
        """Takes all steps again as they were; whether they lead to the same sample."""
        assert self._start is not None
        assert self._result is not None
        state, current = self._start
        present = self._entries[0].step.state()
        self._entries[0].step.restore(state)
        for entry in self._entries:
            result = entry.step.run(entry.output, current)
            current = result if entry.shift is None else result + entry.shift
        self._entries[0].step.restore(present)
        if torch.equal(result, self._result):
            return True
        # corrections, and what was added between the steps, are added anew, with a rounding
        precision = max(torch.finfo(result.dtype).eps, torch.finfo(torch.float32).eps)
        allowed = 0.1 * precision**0.5 * float(self._result.abs().max())
        return bool((result - self._result).abs().max() <= allowed)
