r"""Weights of known outputs in an unknown one, from how the outputs of a model go together.

Over many runs the output :math:`e_k` of step k is taken for a random variable; each of its numbers
is a draw. With the kernel :math:`K_{ij} = \mathrm{mean}\,\langle e_i, e_j\rangle / D`, the best
linear guess from the outputs at the steps J is

.. math:: \hat e_k = \sum_{j \in J} w_j e_j, \qquad
          w = (K_{JJ} + \nu\,\mathrm{diag} K_{JJ})^{-1} K_{Jk}

(simple kriging; Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equation
2.25). The nugget :math:`\nu` stands for the rounding of an output, and for what differs
between a full run and an accelerated one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["kriging_weights"]

_SMALLEST = 1e-30  # of a mean square: outputs that are zero get no weight


def kriging_weights(
    kernel: Tensor, nodes: Sequence[int], at: Sequence[int], nugget: float
) -> Tensor:
    """The weights of the outputs at `nodes` in those `at` other steps: `(nodes, at)`, float64.

    Args:
        kernel: `(N, N)`, float64.
        nodes: steps whose outputs are known.
        at: steps whose outputs are to be guessed.
        nugget: relative to the mean squares on the kernel's diagonal.
    """
    rows = list(nodes)
    known = kernel[rows][:, rows]
    own = known.diag().clamp(min=_SMALLEST)
    return torch.linalg.solve(known + nugget * own.diag(), kernel[rows][:, list(at)])
