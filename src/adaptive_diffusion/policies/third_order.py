r"""The rule of the paper: skip while the sample moves evenly.

Ye et al., "Training-Free Adaptive Diffusion with Bounded Difference Approximation Strategy",
NeurIPS 2024, arXiv 2410.09873. With :math:`d_k = \mathrm{mean}\,|L_k - L_{k-1}|`, step i + 1 is
skipped if and only if

.. math:: \bigl|\tfrac{1}{2}(d_i + d_{i-2}) - d_{i-1}\bigr| \le \delta\, d_{i-1},

unless the last `max_skip` verdicts were all "skip". The steps, the order of the tests and the
threshold's side are those of the authors' published code, where it differs from the paper's text.
There, one mean over the whole batch decides for every image; here every sample decides for itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaptive_diffusion.policies.base import (
    Policy,
    Trace,
    require_count,
    require_positive_number,
)

__all__ = ["ThirdOrder"]

_FIRST_VERDICT = 4  # steps 0 to 3 are always computed and get no verdict


@dataclass(frozen=True)
class ThirdOrder(Policy):
    """Skip by the third-order difference of the latents; a skipped step reuses the last output.

    Attributes:
        threshold: the paper's δ; 0.01 by default, 0.004 for its latent text-to-image runs.
        max_skip: the paper's C_max, the longest run of skips; 4 by default, there 6.

    Raises:
        PolicyError: on a negative or non-finite threshold, or a `max_skip` below one.
    """

    threshold: float = 0.01
    max_skip: int = 4

    extrapolates = False
    backfill = False
    observes = "changes"
    fewest_steps = _FIRST_VERDICT + 1

    def __post_init__(self) -> None:
        require_positive_number("threshold", self.threshold, "0.01")
        require_count("max_skip", self.max_skip, at_least=1)

    def decide(self, trace: Trace) -> bool:
        if trace.step < _FIRST_VERDICT:
            return True
        verdicts = trace.mask[_FIRST_VERDICT:]
        if len(verdicts) > 4 and not any(verdicts[-self.max_skip :]):
            return True
        before, middle, now = trace.changes[-3:]
        # written so that a change that is not a number means: compute
        return not abs((now + before) / 2 - middle) <= self.threshold * middle < math.inf
