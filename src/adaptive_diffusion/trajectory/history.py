"""The values computed last, sample by sample, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adaptive_diffusion.numerics.rows import per_row, select_rows, weighted_sum

__all__ = ["History"]

Weigh = Callable[[list[int]], list[float]]
"""The weights of the values at these steps, the latest first."""


class History:
    """The last few computed values of every sample and the steps where they stand.

    Samples may have been computed at different steps: slot m holds every sample's m-th latest. All
    are kept in one tensor, in float32, so that a sum of them takes two operations.
    """

    def __init__(self, samples: int, length: int) -> None:
        self._length = length
        self._steps: list[list[int]] = [[] for _ in range(samples)]
        self._values: Tensor | None = None
        self.latest: Tensor | None = None

    @property
    def known(self) -> list[bool]:
        """For each sample, whether it has a value."""
        return [bool(steps) for steps in self._steps]

    def remember(self, mask: list[bool], value: Tensor, step: int) -> None:
        """Takes in `value` for the samples in `mask`, computed at `step`."""
        newest = value.float()[None]
        if self._values is None:
            self._values, self.latest = newest, value
        else:
            assert self.latest is not None
            slots = torch.cat([newest, self._values])
            if not all(mask):
                unmoved = torch.cat([self._values, self._values[-1:]])
                slots = torch.where(per_row(mask, value)[None], slots, unmoved)
            self._values = slots[: self._length]
            self.latest = select_rows(mask, value, self.latest)
        for steps, known in zip(self._steps, mask, strict=True):
            if known:
                steps[:] = [step, *steps][: self._length]

    def change(self, weigh: Weigh) -> Tensor | None:
        """How far the weighted sums lead from each sample's latest value, in float32.

        Zero for a sample without a value. None if nothing leads away from the latest values.
        """
        weights = [weigh(steps) if steps else [1.0] for steps in self._steps]
        if all(row == [1.0] for row in weights):
            return None
        return self._sum([[row[0] - 1.0, *row[1:]] for row in weights])

    def between(self, value: Tensor, step: int, weigh: Weigh) -> Tensor:
        """The weighted sums of `value` at `step` and the values before it, in its dtype."""
        weights = [weigh([step, *steps]) for steps in self._steps]
        first = per_row([row[0] for row in weights], value)
        return torch.addcmul(self._sum([row[1:] for row in weights]), first, value.float()).to(
            value.dtype
        )

    def _sum(self, weights: list[list[float]]) -> Tensor:
        """Of the values that there are; a sample may have fewer than others."""
        assert self._values is not None
        slots = len(self._values)
        return weighted_sum([row + [0.0] * (slots - len(row)) for row in weights], self._values)
