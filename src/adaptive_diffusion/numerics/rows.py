"""One value per sample, applied to tensors with one row per sample.

A sample may have several rows, one after the other: everywhere below, each entry of a sequence
stands for an equal share of the tensor's rows. A batch which is decided as a whole has one entry.
"""

from __future__ import annotations

import functools
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


def weighted_sum(weights: Sequence[Sequence[float]], tensors: Sequence[Tensor]) -> Tensor:
    """`sum_m weights[sample][m] * tensors[m]`, in float32 and returned in the tensors' dtype."""
    terms = []
    for m, tensor in enumerate(tensors):
        column = [row[m] for row in weights]
        # a number needs no copy to the device
        weight = column[0] if len(column) == 1 else per_row(column, tensor)
        terms.append(weight * tensor.float())
    return functools.reduce(torch.add, terms).to(tensors[0].dtype)


def rowwise_dot(a: Tensor, b: Tensor, rows: int) -> Tensor:
    """Inner product of each of the `rows` samples of two tensors; shape `(rows,)`."""
    return (a.reshape(rows, -1) * b.reshape(rows, -1)).sum(dim=1)


def rowwise_norm(tensor: Tensor, rows: int) -> Tensor:
    """Euclidean norm of each of the `rows` samples, in float32; shape `(rows,)`."""
    return torch.linalg.vector_norm(tensor.float().reshape(rows, -1), dim=1)
