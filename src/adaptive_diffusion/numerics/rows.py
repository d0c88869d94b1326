"""One value per sample, applied to tensors with one row per sample.

A sample may have several rows, one after the other: everywhere below, each entry of a sequence
stands for an equal share of the tensor's rows. A batch which is decided as a whole has one entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["over_rows", "per_row", "rowwise_dot", "rowwise_norm", "select_rows", "weighted_sum"]


def per_row(values: Sequence[float] | Sequence[bool], like: Tensor) -> Tensor:
    """`values` in a shape that broadcasts over the rows of `like`: `(rows, 1, ..., 1)`."""
    dtype = torch.bool if isinstance(values[0], bool) else torch.float32
    return over_rows(torch.tensor(values, dtype=dtype), like).to(like.device, non_blocking=True)


def over_rows(column: Tensor, like: Tensor) -> Tensor:
    """The same for values that are a tensor already, one per sample."""
    if len(column) > 1:
        column = column.repeat_interleave(len(like) // len(column))
    return column.view(-1, *(1,) * (like.ndim - 1))


def select_rows(mask: Sequence[bool], chosen: Tensor, other: Tensor) -> Tensor:
    """The rows of `chosen` where `mask` is true, the rows of `other` elsewhere.

    Returns one of the two arguments itself where no mixing is needed.
    """
    if all(mask):
        return chosen
    if not any(mask):
        return other
    return torch.where(per_row(mask, chosen), chosen, other)


def weighted_sum(weights: Sequence[Sequence[float]], tensors: Tensor | Sequence[Tensor]) -> Tensor:
    """`sum_m weights[sample][m] * tensors[m]`, in float32 and returned in the tensors' dtype.

    Multiplied and added, not a matrix product: that may be told to be less precise. Tensors that
    are stacked already need two operations.
    """
    values = tensors if isinstance(tensors, Tensor) else torch.stack(list(tensors))
    terms, rows = values.shape[:2]
    columns = torch.tensor(weights, dtype=torch.float32).T
    columns = columns.repeat_interleave(rows // len(weights), dim=1)
    columns = columns.view(terms, rows, *(1,) * (values.ndim - 2))
    return (
        (columns.to(values.device, non_blocking=True) * values.float()).sum(dim=0).to(values.dtype)
    )


def rowwise_dot(a: Tensor, b: Tensor, rows: int) -> Tensor:
    """Inner product of each of the `rows` samples of two tensors; shape `(rows,)`."""
    return (a.reshape(rows, -1) * b.reshape(rows, -1)).sum(dim=1)


def rowwise_norm(tensor: Tensor, rows: int) -> Tensor:
    """Euclidean norm of each of the `rows` samples, in float32; shape `(rows,)`."""
    return torch.linalg.vector_norm(tensor.float().reshape(rows, -1), dim=1)
