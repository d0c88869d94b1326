r"""What is assumed of a model of which only the kernel of its outputs is known.

With the gains :math:`g_k` and the shares of noise :math:`s_k` of the steps, and
:math:`\hat x_0 = A_k x_k + B_k e_k`,

.. math:: b_k = g_k, \qquad w_k = g_k\,(1 + 2.5\,s_k^2), \qquad
          \rho_k = -A_k / B_k, \qquad d_k = 0

for the moves, effects, responses and deviations. So early errors count more than late ones, as they
do where the seed decides what a sample becomes. And to a displaced sample the output answers so
that the same clean sample is predicted. The factor 2.5 comes from `digits`, `sounds`, and `emoji`
and `emoji-dit` without a prompt.
"""

from __future__ import annotations

from torch import Tensor

from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.statistics import Statistics, Terms

__all__ = ["assumed_statistics"]

_EARLY = 2.5
_UNKNOWN = (0.0, 1.0)  # where the levels are: no output then answers


def assumed_statistics(
    schedule: NoiseSchedule, terms: Terms, kernel: Tensor, noisy: bool = False
) -> Statistics:
    """Of a stream of which only the kernel was measured.

    Args:
        schedule: the loop's N steps.
        terms: of the values that are forecast; N pairs.
        kernel: `(N, N)`, of these values.
        noisy: whether the solver added noise.
    """
    steps = len(schedule)
    return Statistics.of_values(
        schedule,
        terms,
        kernel,
        moves=schedule.gains,
        effects=[
            gain * (1 + _EARLY * noise**2)
            for gain, noise in zip(schedule.gains, schedule.noise, strict=True)
        ],
        responses=[-a / b for a, b in schedule.clean or (_UNKNOWN,) * steps],
        deviations=(0.0,) * steps,
        noisy=noisy,
    )
