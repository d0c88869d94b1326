"""What the samples of a linear loop lack, because it was told outputs that are known better now."""

from __future__ import annotations

from torch import Tensor

from adaptive_diffusion.numerics.linear_response import LinearResponse

__all__ = ["Corrections"]

Column = tuple[int, int]
"""A call, and which of its outputs."""


class Corrections:
    """Changes of outputs, and what becomes of them.

    A change is kept for as long as some sample to come depends on it. An output that acts on all of
    these as a sum of others does is put to them: so there are never more tensors than the sampler
    itself remembers, but for the outputs that it has not yet made use of.
    """

    def __init__(self, response: LinearResponse) -> None:
        self._response = response
        self._changes: dict[Column, Tensor] = {}

    def __len__(self) -> int:
        """How many tensors are kept."""
        return len(self._changes)

    def add(self, column: Column, change: Tensor) -> None:
        """Takes in by how much an output has changed."""
        known = self._changes.get(column)
        self._changes[column] = change if known is None else known + change

    def merge(self, row: int) -> None:
        """Puts together what acts alike from `row` on, and drops what acts no more."""
        reach = {column: self._response.reach(column, row) for column in self._changes}
        kept: dict[Column, Tensor] = {}
        for column in sorted(reach, key=lambda each: -reach[each]):
            if reach[column]:
                self._put(kept, column, self._changes[column], row)
        self._changes = kept

    def at(self, row: int) -> Tensor | None:
        """What the sample of that call lacks, or the result; None if nothing."""
        total: Tensor | None = None
        for (call, output), change in self._changes.items():
            factor = self._response.coefficient(row, call, output)
            if factor:
                total = factor * change if total is None else total + factor * change
        return total

    def _put(self, kept: dict[Column, Tensor], column: Column, change: Tensor, row: int) -> None:
        factors = self._response.factors(column, list(kept), row)
        if factors is None:
            kept[column] = change
            return
        for other, factor in zip(kept, factors, strict=True):
            kept[other] = kept[other] + factor * change
