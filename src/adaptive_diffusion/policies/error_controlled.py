r"""Ours: skip as long as the error that skipping brings stays within a tolerance.

A skipped output is forecast along the line through the last two computed ones, as far as the
sample's outputs have kept to such lines. At every computed step i the forecast is compared with the
truth, :math:`r_i = \|e_i - \hat e_i\| / \|e_i\|`. The error of an extrapolation grows like the
product of the distances to its nodes,

.. math:: r_k \approx c\,|(\lambda_k - \lambda_a)(\lambda_k - \lambda_b)|, \qquad
          c = \frac{r_i}{|(\lambda_i-\lambda_{a'})(\lambda_i-\lambda_{b'})|},

so the last measured one predicts the next. Step k is skipped while the errors of the present run
of skips stay below the tolerance:

.. math:: \sum_k \frac{g_k\, r_k}{4}
          \Bigl(\frac{1}{s_{k+1} + s_0} + \frac{\kappa}{1 - s_{k+1} + s_0}\Bigr)
          \Bigl(1 + \bigl(\tfrac{s_i - s_{k+1}}{h}\bigr)^4\Bigr) < \text{tolerance}.

Each is weighted by how far its step moves the sample (the gain g), and by what becomes of it. What
the denoiser takes for noise is held against the noise that is still in the sample then (its share
s, between one and zero): it is taken out if it is small beside it. What it takes for picture grows
with the share of picture, 1 - s. The last factor stands for what the leading term of the error
leaves out over a long way. Without it a sample that has not yet decided what to become, and so
hardly changes, is skipped in its most important stretch.

Two precautions come from the control of step sizes in solvers of differential equations: a
constant that has grown since it was last measured is taken to grow by as much again, while one
that has fallen is believed by half. And a run that goes further than the one before it gets only
that share of the tolerance, so that runs change their length rarely: the errors of equal runs
cancel to a good part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaptive_diffusion.numerics.interpolation import growth
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
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
_FLOOR = 0.05  # s_0: errors are never held against less noise, or picture, than this
_PICTURE = 0.3  # kappa: the part of an error that is taken for picture
_REACH = 0.1  # h: how far, in the share of noise, the leading term of the error holds
_STEEPEST = 4.0  # how much the constant may be taken to grow


@dataclass(frozen=True)
class ErrorControlled(Policy):
    """Skip while the predicted error stays within the tolerance; each sample for itself.

    Attributes:
        tolerance: the error, relative to the noise and the picture that the sample holds, that one
            run of skips may bring. Zero skips nothing; smaller is closer to the full run.
        max_skip: the longest run of skips.

    Raises:
        PolicyError: on a tolerance that is negative, not finite or not a plain number, or a
            `max_skip` below one.
    """

    tolerance: float = QUALITIES["balanced"]
    max_skip: int = 6

    observes = "errors"
    fewest_steps = _WARM_UP + 2  # one to skip, and the last

    def __post_init__(self) -> None:
        require_positive_number("tolerance", self.tolerance, "0.01")
        require_count("max_skip", self.max_skip, at_least=1)

    def decide(self, trace: Trace) -> bool:
        computed = trace.computed
        if len(computed) < _WARM_UP or trace.is_last or trace.skips >= self.max_skip:
            return True
        at = trace.schedule.coordinates
        latest, nodes = computed[-1], [at[step] for step in computed[-trace.nodes :]]
        constant = _expected_constant(trace, computed)
        error = sum(
            constant * growth(nodes, at[step]) * _weight(trace.schedule, latest, step)
            for step in range(latest + 1, trace.step + 1)
        )
        # written so that an error that is not a number means: compute
        return not error < self.tolerance * _trust(latest - computed[-2], trace.step + 1 - latest)


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


def _constant(trace: Trace, computed: list[int]) -> float:
    """What the error measured at the last of these steps says, whatever the way to it."""
    *before, step = computed
    at = trace.schedule.coordinates
    nodes = [at[node] for node in before[-trace.nodes :]]
    return trace.errors[step] / growth(nodes, at[step])


def _weight(schedule: NoiseSchedule, latest: int, step: int) -> float:
    """What an error at `step` counts, in a run of skips that follows the computed step `latest`."""
    left = schedule.noise[step + 1]
    reach = (schedule.noise[latest] - left) / _REACH
    remains = 1 / (left + _FLOOR) + _PICTURE / (1 - left + _FLOOR)
    return schedule.gains[step] * remains * (1 + reach**4) / 4
