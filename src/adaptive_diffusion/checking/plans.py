"""A plan that skips whatever the samples do, to see whether it is kept."""

from __future__ import annotations

from adaptive_diffusion.policies import Policy, Trace

__all__ = ["EveryOther"]


class EveryOther(Policy):
    """Computes a loop's first two steps, its last, and every other one between. For one call.

    Args:
        offsets: 0 or 1 for each sample, over and over: which of the two it skips.

    Attributes:
        skips: how often it has said so.
    """

    def __init__(self, *offsets: int) -> None:
        self.skips = 0
        self._offsets = offsets
        self._samples: dict[int, tuple[Trace, int]] = {}

    def decide(self, trace: Trace) -> bool:
        if id(trace) not in self._samples:  # samples are asked for in their order
            offset = self._offsets[len(self._samples) % len(self._offsets)]
            self._samples[id(trace)] = trace, offset
        computed = trace.step < 2 or trace.is_last or (trace.step + self._offset(trace)) % 2 == 1
        self.skips += not computed
        return computed

    def _offset(self, trace: Trace) -> int:
        return self._samples[id(trace)][1]

    def __str__(self) -> str:
        return "every other step"
