"""The values computed last, sample by sample, and the polynomials through them."""

from __future__ import annotations

from torch import Tensor

from adaptive_diffusion.numerics.interpolation import lagrange_weights
from adaptive_diffusion.numerics.rows import select_rows, weighted_sum

__all__ = ["History"]

_LENGTH = 2  # a line is extrapolated through two, a parabola interpolated with the next one


class History:
    """The last two computed values of every sample and the coordinates where they stand.

    Samples may have been computed at different steps: slot m holds every sample's m-th latest.
    """

    def __init__(self, samples: int) -> None:
        self._slots: list[Tensor] = []
        self._nodes: list[list[float]] = [[] for _ in range(samples)]

    @property
    def latest(self) -> Tensor:
        """Every sample's latest value."""
        return self._slots[0]

    @property
    def known(self) -> list[bool]:
        """For each sample, whether it has a value."""
        return [bool(nodes) for nodes in self._nodes]

    def remember(self, mask: list[bool], value: Tensor, coordinate: float) -> None:
        """Takes in `value` for the samples in `mask`, computed at `coordinate`."""
        newer, slots = value, []
        for slot in self._slots:
            slots.append(select_rows(mask, newer, slot))
            newer = slot
        if len(self._slots) < _LENGTH:
            slots.append(newer)
        self._slots = slots
        for nodes, known in zip(self._nodes, mask, strict=True):
            if known:
                nodes[:] = [coordinate, *nodes][:_LENGTH]

    def change(self, at: float) -> Tensor | None:
        """How far the lines through each sample's last two values lead from the last, to `at`.

        In float32, and zero for a sample with one value; None if all have but one.
        """
        slopes = [self._slope_weight(nodes, at) for nodes in self._nodes]
        if not any(slopes):
            return None
        latest, before = self._slots
        return weighted_sum([(slope,) for slope in slopes], [before.float() - latest.float()])

    def parabola(self, value: Tensor, coordinate: float, at: float) -> Tensor:
        """At `at`, the parabolas through `value` at `coordinate` and the two values before it."""
        tensors = [value, *self._slots]
        weights = [lagrange_weights([coordinate, *nodes], at) for nodes in self._nodes]
        padded = [row + [0.0] * (len(tensors) - len(row)) for row in weights]
        return weighted_sum(padded, tensors)

    def _slope_weight(self, nodes: list[float], at: float) -> float:
        """The weight in the line of the value before the last; zero where there is none."""
        if len(nodes) < _LENGTH:
            return 0.0
        latest, before = nodes
        return (at - latest) / (before - latest)
