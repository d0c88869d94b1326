"""A plan made beforehand: what a search finds, or what a benchmark prescribes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptive_diffusion.errors import PolicyError, StepsError
from adaptive_diffusion.policies.base import Policy, Trace

__all__ = ["FixedSchedule"]


@dataclass(frozen=True)
class FixedSchedule(Policy):
    """Compute exactly the steps that a mask names, the same for every sample.

    Attributes:
        mask: one truth value per step, True where the denoiser is called; the first is True. A step
            after its end is computed.
        extrapolates: whether a skipped step gets a forecast rather than the last output.
        backfill: whether skipped steps are done again once they can be interpolated.

    Raises:
        PolicyError: on an empty mask, or one that skips the first step.
        StepsError: when a generation has another number of steps.
    """

    mask: Sequence[bool]
    extrapolates: bool = True
    backfill: bool = True

    def __post_init__(self) -> None:
        try:
            mask = tuple(bool(step) for step in self.mask)
        except TypeError:
            raise PolicyError(f"mask must be a sequence of truth values: {self.mask!r}") from None
        if not mask or not mask[0]:
            raise PolicyError("mask must begin with True: the first step has nothing to reuse")
        object.__setattr__(self, "mask", mask)

    def decide(self, trace: Trace) -> bool:
        return trace.step >= len(self.mask) or self.mask[trace.step]

    def check_steps(self, steps: int) -> None:
        """A mask may be one step short: some pipelines leave out their scheduler's last one."""
        if steps not in (len(self.mask), len(self.mask) + 1):
            raise StepsError(
                f"the mask has {len(self.mask)} steps and the generation {steps}: "
                f"make a mask of {steps}, or set num_inference_steps to match"
            )
