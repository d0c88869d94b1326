r"""Polynomials through a few known outputs.

The polynomial through the points :math:`(\lambda_m, q_m)` has at :math:`\lambda` the value

.. math:: q(\lambda) = \sum_m w_m q_m, \qquad
          w_m = \prod_{n \neq m} \frac{\lambda - \lambda_n}{\lambda_m - \lambda_n},

and its error is proportional to :math:`\prod_m |\lambda - \lambda_m|`, here called the *growth*.
Outside the points it is a forecast, between them an interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Polynomials", "growth", "lagrange_weights"]


def lagrange_weights(nodes: Sequence[float], at: float) -> list[float]:
    """Weights of the values known at `nodes` in the polynomial's value at `at`; they sum to one.

    The nodes must differ from one another.
    """
    return [
        math.prod((at - other) / (node - other) for n, other in enumerate(nodes) if n != m)
        for m, node in enumerate(nodes)
    ]


def growth(nodes: Sequence[float], at: float) -> float:
    """How fast the polynomial's error has grown at `at`: the product of distances to the nodes."""
    return math.prod(abs(at - node) for node in nodes)


class Polynomials:
    """The weights of outputs in a line to be extrapolated, and a parabola to be interpolated.

    Args:
        coordinates: where the outputs of all steps stand.
    """

    remembers = 2
    """How many outputs before the present one are needed."""

    def __init__(self, coordinates: Sequence[float]) -> None:
        self._coordinates = coordinates

    def weights(self, nodes: Sequence[int], at: int) -> list[float]:
        """Of the outputs at the steps `nodes`, all of which count, in the one at `at`."""
        return lagrange_weights([self._coordinates[node] for node in nodes], self._coordinates[at])
