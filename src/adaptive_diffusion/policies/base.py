"""What a policy is, and what it sees."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from adaptive_diffusion.errors import PolicyError
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.statistics import Statistics

__all__ = ["Policy", "Trace", "require_count", "require_positive_number"]


@dataclass
class Trace:
    """One sample's generation so far: what a policy decides from.

    Attributes:
        schedule: coordinates and gains of all steps of the loop.
        nodes: how many computed outputs a forecast goes through (2: linear, 1: reuse).
        mask: for every finished step, whether the denoiser was called.
        errors: for every finished step, the relative error `‖e − ê‖ / ‖e‖` of the forecast that
            would have been used; NaN where the step was skipped or no forecast was possible.
        changes: for every finished step, `mean |L_k − L_{k−1}|` of the sample; NaN at first.
        begun: the step at which what belongs together begins: the loop's first, or the first one
            after a change of what the denoiser is asked. It is computed.
    """

    schedule: NoiseSchedule
    nodes: int = 2
    mask: list[bool] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    begun: int = 0

    @property
    def step(self) -> int:
        """The step to decide on."""
        return len(self.mask)

    @property
    def is_last(self) -> bool:
        """Whether that is the loop's last step."""
        return self.step == len(self.schedule) - 1

    @property
    def computed(self) -> list[int]:
        """The computed steps, first to last, since those that belong together began."""
        return [step for step, called in enumerate(self.mask) if called and step >= self.begun]

    @property
    def skips(self) -> int:
        """How many steps in a row have just been skipped."""
        computed = self.computed
        return self.step - 1 - computed[-1] if computed else self.step - self.begun


class Policy(ABC):
    """Decides, step by step and sample by sample, whether the denoiser is called.

    A policy holds settings and no state: all that it knows of a generation is the trace.

    Attributes:
        extrapolates: what a skipped step gets. True: the line through the last two outputs (the
            last predicted velocity, where the solver adds noise). False: the last output.
        backfill: whether skipped steps are done again once they can be interpolated.
        cautious: whether the last output is reused, where a sample has gone back on its line.
        observes: the field of the trace that `decide` reads: "errors", "changes" or none.
        fewest_steps: a loop with fewer steps than that is computed in full.
    """

    extrapolates: bool = True
    backfill: bool = True
    cautious: bool = False
    observes: str = ""
    fewest_steps: int = 2

    @abstractmethod
    def decide(self, trace: Trace) -> bool:
        """Whether the denoiser must be called at `trace.step`."""

    def statistics_of(self, schedule: NoiseSchedule, stream: int) -> Statistics | None:
        """What was measured of a loop's outputs; None where lines are drawn through them.

        Args:
            schedule: the loop's steps.
            stream: which of its streams, in the order in which they come.
        """
        return None

    def remark(self, mask: Sequence[bool]) -> str:
        """What to tell the user of a loop in which these steps were computed; mostly nothing."""
        return ""

    def check_steps(self, steps: int) -> None:  # noqa: B027  most policies serve any number
        """Raises `StepsError` if the policy can't serve a loop of that many steps."""


def require_count(name: str, value: object, at_least: int) -> None:
    """Raises `PolicyError` unless `value` is a whole number of at least `at_least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < at_least:
        raise PolicyError(f"{name} must be a whole number of at least {at_least}, not {value!r}")


def require_positive_number(name: str, value: object, advice: str) -> None:
    """Raises `PolicyError` unless `value` is a plain finite number, zero or more."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise PolicyError(f"{name} must be a plain number such as {advice}, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise PolicyError(f"{name} must be finite and not negative, such as {advice}: {value!r}")
