r"""Ours: skip as long as the error that skipping brings stays within a tolerance.

A skipped output is forecast along the line through the last two computed ones. Where the sample's
outputs have just gone back on such a line, the last one is reused. At every computed step i the
forecast is compared with the truth, :math:`r_i = \|e_i - \hat e_i\| / \|e_i\|`. The error of an
extrapolation grows like the product of the distances to its nodes,

.. math:: r_k \approx c\,|(\lambda_k - \lambda_a)(\lambda_k - \lambda_b)|, \qquad
          c = \frac{r_i}{|(\lambda_i-\lambda_{a'})(\lambda_i-\lambda_{b'})|},

so the last measured one predicts the next. Step k is skipped while the errors of the present run
of skips stay below the tolerance:

.. math:: \tfrac52 \sum_k g_k\, r_k < \text{tolerance}.

Each error counts by how far its step moves the sample, the gain g. What becomes of it afterwards
differs from model to model by two orders of magnitude, and is not known here. The factor only sets
the scale: at a tolerance of 0.02 about two thirds of 50 calls are left out.

Two precautions come from the control of step sizes in solvers of differential equations: a
constant that has grown since it was last measured is taken to grow by as much again, while one
that has fallen is believed by half. And a run that goes further than the one before it gets only
that share of the tolerance, so that runs change their length rarely: the errors of equal runs
cancel to a good part.

Where the solver adds noise, the last velocity is reused. Noise is a random walk: the error grows
like the root of the number of steps. And one more condition holds. An error of the output is an
error :math:`|B_k|\,r_k` of the predicted clean sample :math:`A_k x_k + B_k e_k`, for outputs have
about the size one. By a large one, a sample that is mostly noise may become another picture. So
with :math:`s_k`, the share of noise, nothing is skipped while

.. math:: s_k\,|B_k|\,r_k > \tfrac14

for a forecast as long as the next one, at any of the last computed steps. As many of these count as
a quarter of the loop has, for decisions come in bursts. Until so many are computed, nothing is
skipped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from adaptive_diffusion.numerics.interpolation import growth
from adaptive_diffusion.policies.base import (
    Policy,
    Trace,
    require_count,
    require_positive_number,
)

__all__ = ["QUALITIES", "ErrorControlled"]

QUALITIES = {"faithful": 0.005, "balanced": 0.02, "fast": 0.08}
"""Tolerances by name."""

_WARM_UP = 3  # steps until a forecast has been compared with the truth once
_SCALE = 2.5  # of the tolerance
_HARDLY = 0.05  # a smaller share of skipped steps is next to nothing
_STEEPEST = 4.0  # how much the constant may be taken to grow
_UNDECIDED = 0.25  # a larger error of the clean sample, times the share of noise, is too much
_MEMORY = 0.25  # of the loop: so many computed steps say whether the picture is undecided


@dataclass(frozen=True)
class ErrorControlled(Policy):
    """Skip while the predicted error stays within the tolerance; each sample for itself.

    Attributes:
        tolerance: the error, relative to the sample, that one run of skips may bring, times 2.5.
            Zero skips nothing; smaller is closer to the full run.
        max_skip: the longest run of skips.

    Raises:
        PolicyError: on a tolerance that is negative, not finite or not a plain number, or a
            `max_skip` below one.
    """

    tolerance: float = QUALITIES["balanced"]
    max_skip: int = 6

    cautious = True
    observes = "errors"
    fewest_steps = _WARM_UP + 2  # one to skip, and the last

    def __post_init__(self) -> None:
        require_positive_number("tolerance", self.tolerance, "0.01")
        require_count("max_skip", self.max_skip, at_least=1)

    def decide(self, trace: Trace) -> bool:
        computed = trace.computed
        if len(computed) < _WARM_UP or trace.is_last or trace.skips >= self.max_skip:
            return True
        if _is_undecided(trace, computed):
            return True
        latest, constant = computed[-1], _expected_constant(trace, computed)
        error = sum(
            _SCALE * trace.schedule.gains[step] * constant * _growth(trace, computed, step)
            for step in range(latest + 1, trace.step + 1)
        )
        # written so that an error that is not a number means: compute
        return not error < self.tolerance * _trust(latest - computed[-2], trace.step + 1 - latest)

    def remark(self, mask: Sequence[bool]) -> str:
        """Where next to nothing was skipped, what to do about it."""
        steps, skipped = len(mask), len(mask) - sum(mask)
        if self.tolerance == 0 or steps < self.fewest_steps or skipped >= _HARDLY * steps:
            return ""
        return (
            f"{skipped or 'none'} of {steps} steps skipped: a tolerance of {self.tolerance:g} "
            "allows no more here; take a larger one, more steps, or a number of calls with nfe"
        )


def _trust(before: int, now: int) -> float:
    """The part of the tolerance that a distance between computed steps gets, after `before`."""
    return min(1.0, before / now)


def _expected_constant(trace: Trace, computed: list[int]) -> float:
    """The latest constant of the error; larger where it has changed since the one before."""
    latest = _constant(trace, computed)
    before = _constant(trace, computed[:-1]) if len(computed) > _WARM_UP else latest
    if latest > before:
        return latest * min(latest / before, _STEEPEST) if before else latest * _STEEPEST
    return math.sqrt(latest * before)


def _constant(trace: Trace, computed: Sequence[int]) -> float:
    """What the error measured at the last of these steps says, whatever the way to it."""
    *before, step = computed
    return trace.errors[step] / _growth(trace, before, step)


def _growth(trace: Trace, computed: list[int], step: int) -> float:
    """How much an error has grown at a step, by its distances to the computed steps before it."""
    if trace.nodes == 1:
        return math.sqrt(step - computed[-1])
    at = trace.schedule.coordinates
    return growth([at[node] for node in computed[-trace.nodes :]], at[step])


def _is_undecided(trace: Trace, computed: list[int]) -> bool:
    """Whether a forecast under noise may still make another picture of the sample."""
    schedule, recent = trace.schedule, int(_MEMORY * len(trace.schedule))
    if trace.nodes > 1 or schedule.clean is None:
        return False
    if len(computed) <= recent:
        return True
    grown = _growth(trace, computed, trace.step)
    return not all(
        schedule.noise[step]
        * abs(schedule.clean[step][1])
        * _constant(trace, (before, step))
        * grown
        <= _UNDECIDED
        for before, step in itertools.pairwise(computed[-recent - 1 :])
    )
