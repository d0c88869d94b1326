r"""Weights of known outputs in an unknown one, from how the outputs of a model go together.

Over many runs the output :math:`e_k` of step k is taken for a random variable; each of its numbers
is a draw. With the kernel :math:`K_{ij} = \mathrm{mean}\,\langle e_i, e_j\rangle / D`, the best
linear guess from the outputs at the steps J, and what it leaves open of the steps U, are

.. math:: \hat e_k = \sum_{j \in J} w_j e_j, \quad w = (K_{JJ} + \nu\,\mathrm{diag} K_{JJ})^{-1} K_{Jk},
          \qquad P = K_{UU} - K_{UJ} (K_{JJ} + \nu\,\mathrm{diag} K_{JJ})^{-1} K_{JU}

(simple kriging; Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equations
2.25 and 2.26). The nugget :math:`\nu` stands for the rounding of an output, and for what differs
between a full run and an accelerated one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NUGGET", "covariance_left", "kriging_weights"]

NUGGET = 1e-6


def kriging_weights(kernel: Tensor, nodes: Sequence[int], at: Sequence[int]) -> Tensor:
    """The weights of the outputs at `nodes` in those `at` other steps: `(nodes, at)`, float64.

    `kernel` is `(N, N)` in float64.
    """
    rows = list(nodes)
    known = kernel[rows][:, rows]
    return torch.linalg.solve(known + NUGGET * known.diag().diag(), kernel[rows][:, list(at)])


def covariance_left(kernel: Tensor, nodes: Sequence[int], at: Sequence[int]) -> Tensor:
    """The covariance of the guesses' errors `at` some steps: `(at, at)`, float64."""
    columns = list(at)
    weights = kriging_weights(kernel, nodes, at)
    return kernel[columns][:, columns] - kernel[columns][:, list(nodes)] @ weights
