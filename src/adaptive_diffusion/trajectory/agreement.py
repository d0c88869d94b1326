r"""How well each sample's outputs keep to the line that was drawn to them.

At a computed step the line through the last two outputs can be held against the truth. With
:math:`e_a` the last output before, :math:`\ell` the line's value and :math:`e` the output,

.. math:: \beta = \frac{\langle e - e_a,\; \ell - e_a \rangle}{\lVert \ell - e_a \rVert^2}

is the share of the line's change that came true: the line's best length in the least-squares sense.
One means that the line held, zero that nothing of it did, and less than zero that the output went
back on its trend. Then it is no smooth function over so long a way, and reuse of the last output,
which is nothing but a larger solver step, is the safest guess.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptive_diffusion.numerics.rows import over_rows, rowwise_dot

__all__ = ["Agreement"]


class Agreement:
    """Each sample's latest β, held to 0 to 1; until one is measured, lines are fully trusted."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._share: Tensor | None = None

    def measure(self, mask: list[bool], moved: Tensor, change: Tensor) -> None:
        """Compares how far the outputs of the samples in `mask` have moved with the line's change.

        A line without a slope says nothing: what was measured before stands.
        """
        length = rowwise_dot(change, change, self._samples)
        share = rowwise_dot(moved, change, self._samples) / length
        known = length > 0
        if not all(mask):
            known &= torch.tensor(mask).to(share.device, non_blocking=True)
        before = 1.0 if self._share is None else self._share
        self._share = torch.where(known, share.clamp(0, 1), before)

    def move(self, latest: Tensor, change: Tensor) -> Tensor:
        """`latest` moved by as much of `change` as the agreement says."""
        if self._share is None:
            return (latest.float() + change).to(latest.dtype)
        share = over_rows(self._share, change)
        return torch.addcmul(latest.float(), share, change).to(latest.dtype)

    def choose(self, smooth: Tensor, rough: Tensor) -> Tensor:
        """`smooth` for the samples that have not gone back on their trend, `rough` for others."""
        if self._share is None:
            return smooth
        return torch.where(over_rows(self._share > 0, smooth), smooth, rough)
