r"""How the samples of a loop depend on the outputs of its model.

Nearly every sampler is linear in its start, in the model's outputs and in its noise. The sample
that enters call k, and the result as row N, are

.. math:: x_k = a_k x_0 + \sum_{j<k} c_{kj}\, u_j + \text{noise},

with coefficients that depend on the noise levels alone. A changed output j changes every later
sample by :math:`c_{kj}` times the change. The matrix is measured: element by element, an output
gets an *impulse* at one call and is zero at all others, and the samples say what became of it.

For Euler's method it is known in closed form: with an output that predicts the noise,
:math:`c_{kj} = \sigma_{j+1} - \sigma_j` for all :math:`k > j` (Karras et al., "Elucidating the
Design Space of Diffusion-Based Generative Models", NeurIPS 2022, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptive_diffusion.errors import NotLinearError

__all__ = ["Blocks", "LinearResponse", "rounding"]

_BLOCKS = 8192  # no more elements of a sample are read
_ROUNDING = 1e3  # in units of the data type's precision: what sums of rounding errors stay below
_LARGEST_ROUNDING = 0.05
_ALIKE = 1e-4  # a column that differs by less from a sum of others is that sum
_CANCELLING = 100.0  # larger factors would make rounding large, too


@dataclass(frozen=True, eq=False)
class LinearResponse:
    """The matrix c of a loop.

    Attributes:
        matrix: `(N + 1, N, M)` in float64 for N calls of a model with M outputs: how much of output
            m of call j is in the sample that enters call k; row N is the loop's result.
    """

    matrix: Tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearResponse):
            return NotImplemented
        return torch.equal(self.matrix, other.matrix)

    def __hash__(self) -> int:
        return hash((self.matrix.shape, float(self.matrix.sum())))

    @property
    def calls(self) -> int:
        """N, how often the loop calls its model."""
        return self.matrix.shape[1]

    @property
    def outputs(self) -> int:
        """M, how many outputs a call has."""
        return self.matrix.shape[2]

    def coefficient(self, row: int, call: int, output: int = 0) -> float:
        """How much of that output is in the sample that enters call `row`."""
        return float(self.matrix[row, call, output])

    def factors(
        self, column: tuple[int, int], others: Sequence[tuple[int, int]], row: int
    ) -> list[float] | None:
        """What multiples of `others` add up to `column`, in all rows from `row` on.

        Columns are `(call, output)`. None if there are none, or only some that cancel one another.
        """
        if not others:
            return None
        target, *basis = (self.matrix[row:, call, output] for call, output in (column, *others))
        columns = torch.stack(basis, dim=1)
        factors = torch.linalg.lstsq(columns, target[:, None], driver="gelsd").solution[:, 0]
        rest = float((columns @ factors - target).abs().max())
        if rest > _ALIKE * float(target.abs().max()) or float(factors.abs().max()) > _CANCELLING:
            return None
        return factors.tolist()

    def reach(self, column: tuple[int, int], row: int) -> float:
        """The largest part that an output has in a sample from `row` on."""
        call, output = column
        return float(self.matrix[row:, call, output].abs().max())

    def held(self, terms: Sequence[tuple[float, float]]) -> LinearResponse:
        """The response if `e_j = A_j x_j + B_j u_j` are held in the outputs' place.

        A sampler that is given clean samples answers them otherwise than one that is given noise,
        because a clean sample that is made from noise moves with the sample that the noise is in.

        Args:
            terms: `(A, B)` of every call.
        """
        a, b = torch.tensor(terms, dtype=torch.float64).T
        return LinearResponse(self.matrix / b[:, None]).answered(-a)

    def answered(self, responses: Tensor) -> LinearResponse:
        """The response if output j also answers its sample: a change of x_j by 1 moves it so much.

        Args:
            responses: N numbers, float64. All outputs of a call answer alike.
        """
        answer = self.matrix.sum(dim=2) * responses
        loop = torch.eye(self.calls, dtype=torch.float64) - answer[:-1]
        inner = torch.linalg.solve_triangular(loop, self.matrix[:-1].flatten(1), upper=False)
        result = self.matrix[-1] + (answer[-1] @ inner).view_as(self.matrix[-1])
        return LinearResponse(torch.cat([inner.view_as(self.matrix[:-1]), result[None]]))

    def part(self, calls: slice) -> LinearResponse:
        """How the samples and the result depend on the outputs of these calls alone."""
        rows = torch.cat([self.matrix[:-1][calls], self.matrix[-1:]])
        return LinearResponse(rows[:, calls])

    @property
    def foresight(self) -> float:
        """The largest coefficient of an output in a sample before it; zero but for rounding."""
        return float((self.matrix.abs().amax(dim=2) * self._future).max())

    def cleaned(self, allowed: float) -> LinearResponse:
        """Without what is rounding alone: the future, and what is not above `allowed`."""
        kept = (self.matrix.abs() > allowed) & ~self._future[:, :, None]
        return LinearResponse(self.matrix.where(kept, 0.0))

    @property
    def _future(self) -> Tensor:
        """Which calls come after each row's sample, or with it."""
        return torch.ones(self.matrix.shape[:2], dtype=torch.bool).triu()

    @property
    def forgets(self) -> bool:
        """Whether every sample but the first depends on the last output alone."""
        inner = self.matrix[1:-1].abs().sum(dim=2)
        older = inner.tril(diagonal=-1)
        return self.calls > 1 and not bool(older.any())


class Blocks:
    """The elements of a sample, divided into blocks that are alike.

    Every block gets its impulses in one column of the matrix, and its first element is read.

    Args:
        elements: how many numbers a sample has.
    """

    def __init__(self, elements: int) -> None:
        self._elements = elements
        self._count = min(elements, _BLOCKS)
        self._width = elements // self._count

    def deal(self, columns: int) -> list[Tensor]:
        """The columns dealt out to the blocks, in as many turns as it takes to have each once."""
        turns = -(-columns // self._count)
        return [(torch.arange(self._count) + turn * self._count) % columns for turn in range(turns)]

    def shuffle(self, dealt: Tensor) -> Tensor:
        """The same in another order."""
        return dealt[torch.randperm(len(dealt), generator=torch.Generator().manual_seed(0))]

    def impulse(self, dealt: Tensor | None, column: int, height: float, like: Tensor) -> Tensor:
        """An output that is `height` in the blocks that `column` was dealt to, and else zero."""
        flat = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
        if dealt is not None:
            mine = (dealt == column).to(like.device).repeat_interleave(self._width)
            flat[: len(mine)][mine] = height
        return flat.view(like.shape)

    def read(self, sample: Tensor) -> Tensor:
        """The first element of every block, in float64 on the processor.

        Raises:
            NotLinearError: if the sample has not the elements that were expected.
        """
        if sample.numel() != self._elements:
            raise NotLinearError("its samples, or its result, change their shape on the way")
        return sample.reshape(-1)[: self._width * self._count : self._width].double().cpu()

    def average(self, turns: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, float]:
        """The matrix `(rows, columns)` that responses to impulses of height one speak for.

        Args:
            turns: the dealt columns and the responses `(rows, blocks)`, of all turns.

        Returns:
            The mean over the blocks of each column, and the largest deviation of one from it.
        """
        dealt = torch.cat([each for each, _ in turns])
        responses = torch.cat([each for _, each in turns], dim=1)
        sums = torch.zeros(len(responses), int(dealt.max()) + 1, dtype=torch.float64)
        matrix = sums.index_add(1, dealt, responses) / torch.bincount(dealt)
        return matrix, self.deviation(dealt, responses, matrix)

    def deviation(self, dealt: Tensor, responses: Tensor, matrix: Tensor) -> float:
        """How far the responses are from those that `matrix` expects, at most."""
        return float((responses - matrix[:, dealt]).abs().max())


def rounding(dtype: torch.dtype, matrix: Tensor) -> float:
    """What a deviation from `matrix` stays below if it is rounding alone."""
    unit = min(_ROUNDING * torch.finfo(dtype).eps, _LARGEST_ROUNDING)
    return unit * max(1.0, float(matrix.abs().max()))
