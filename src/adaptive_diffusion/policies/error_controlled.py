r"""Ours: skip as long as the error that skipping brings stays within a tolerance.

A skipped output is extrapolated linearly from the last two computed ones. At every computed step i
the forecast is compared with the truth, :math:`r_i = \|e_i - \hat e_i\| / \|e_i\|`. The error of an
extrapolation grows like the product of the distances to its nodes,

.. math:: r_k \approx c\,|(\lambda_k - \lambda_a)(\lambda_k - \lambda_b)|, \qquad
          c = \frac{r_i}{|(\lambda_i-\lambda_{a'})(\lambda_i-\lambda_{b'})|},

so the last measured one predicts the next. Step k is skipped while the errors of the present run
of skips, each weighted by how far its step moves the sample, stay below the tolerance:

.. math:: \sum_k g_k\, r_k < \text{tolerance}.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptive_diffusion.numerics.interpolation import growth
from adaptive_diffusion.policies.base import (
    Policy,
    Trace,
    require_count,
    require_positive_number,
)

__all__ = ["ErrorControlled"]

_WARM_UP = 3  # steps until a forecast has been compared with the truth once


@dataclass(frozen=True)
class ErrorControlled(Policy):
    """Skip while the predicted error stays within the tolerance; each sample for itself.

    Attributes:
        tolerance: the error, relative to the sample, that one run of skips may bring. Zero skips
            nothing; smaller is closer to the full run.
        max_skip: the longest run of skips.

    Raises:
        PolicyError: on a tolerance that is negative, not finite or not a plain number, or a
            `max_skip` below one.
    """

    tolerance: float = 0.01
    max_skip: int = 6

    observes = "errors"

    def __post_init__(self) -> None:
        require_positive_number("tolerance", self.tolerance, "0.01")
        require_count("max_skip", self.max_skip, at_least=1)

    def decide(self, trace: Trace) -> bool:
        computed = trace.computed
        if len(computed) < _WARM_UP or trace.is_last or trace.skips >= self.max_skip:
            return True
        at = trace.schedule.coordinates
        *before, latest = computed
        measured_nodes = [at[step] for step in before[-trace.nodes :]]
        constant = trace.errors[latest] / growth(measured_nodes, at[latest])
        nodes = [at[step] for step in computed[-trace.nodes :]]
        error = sum(
            trace.schedule.gains[step] * constant * growth(nodes, at[step])
            for step in range(latest + 1, trace.step + 1)
        )
        # written so that an error that is not a number means: compute
        return not error < self.tolerance
