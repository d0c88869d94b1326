r"""Whether each sample's outputs keep to their trend.

At a computed step the line through the last two outputs can be held against the truth. With
:math:`e_a` the last output before, :math:`\ell` the line's value and :math:`e` the output, the
outputs have kept to their trend if

.. math:: \langle e - e_a,\; \ell - e_a \rangle > 0 .

Otherwise they went back on it. Then they are no smooth function over so long a way, and reuse of
the last output, which is nothing but a larger solver step, is the safest guess.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptive_diffusion.numerics.rows import over_rows, rowwise_dot

__all__ = ["Trend"]


class Trend:
    """What was last seen of each sample; until something is, lines are trusted."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._kept: Tensor | None = None

    def see(self, mask: list[bool], moved: Tensor, change: Tensor) -> None:
        """Compares how far the outputs of the samples in `mask` have moved with the line's change.

        A line without a slope says nothing: what was seen before stands.
        """
        kept = rowwise_dot(moved, change, self._samples) > 0
        told = rowwise_dot(change, change, self._samples) > 0
        if not all(mask):
            told &= torch.tensor(mask).to(told.device, non_blocking=True)
        before = torch.ones_like(kept) if self._kept is None else self._kept
        self._kept = torch.where(told, kept, before)

    def move(self, latest: Tensor, change: Tensor) -> Tensor:
        """`latest` moved by `change`, for the samples that keep to their trend."""
        moved = (latest.float() + change).to(latest.dtype)
        return self.choose(moved, latest)

    def choose(self, smooth: Tensor, rough: Tensor) -> Tensor:
        """`smooth` for the samples that keep to their trend, `rough` for the others."""
        if self._kept is None:
            return smooth
        return torch.where(over_rows(self._kept, smooth), smooth, rough)
