"""Denoiser calls of several requests as one call, and its output as theirs.

Which arguments have a row per picture is told from the calls alone: a tensor as long as the noisy
sample does. A single number may differ from call to call, as timesteps do, and becomes a row each.
All else has to be equal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from adaptive_diffusion.adapters.containers import tensors
from adaptive_diffusion.adapters.diffusers.batch import input_of

__all__ = ["Call", "are_finite", "difference", "join", "may_join", "split"]

_NUMBERS = (bool, int, float, str, type(None), torch.dtype, torch.device)


@dataclass
class Call:
    """One denoiser call's arguments, taken apart.

    Attributes:
        rows: of the noisy sample; 0 if there is none, and then the call can't be joined.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int = field(init=False)
    leaves: list[Any] = field(init=False)
    structure: TreeSpec = field(init=False)

    def __post_init__(self) -> None:
        given = input_of(self.args, self.kwargs)
        self.rows = len(given) if given is not None and given.ndim else 0
        self.leaves, self.structure = tree_flatten((self.args, self.kwargs))

    @functools.cached_property
    def layout(self) -> Hashable:
        """What two calls that can be joined have in common at least."""
        return tuple(self._layout(leaf) for leaf in self.leaves)

    def has_row(self, leaf: Any) -> bool:
        """Whether the argument has a row for every row of the sample."""
        return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == self.rows

    def _layout(self, leaf: Any) -> tuple[Any, ...]:
        if not isinstance(leaf, Tensor):
            return (type(leaf),)
        if self.has_row(leaf):
            return "rows", leaf.shape[1:], leaf.dtype, leaf.device
        if leaf.numel() == 1:
            return "number", leaf.dtype, leaf.device
        return "shared", leaf.shape, leaf.dtype, leaf.device


def may_join(first: Call, other: Call) -> bool:
    """Whether the two calls' arguments fit into one."""
    if not first.rows or not other.rows or first.structure != other.structure:
        return False
    return first.layout == other.layout and all(
        first.has_row(a) or _is_number(a) or _equal(a, b)
        for a, b in zip(first.leaves, other.leaves, strict=True)
    )


def join(calls: Sequence[Call]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of one call with the rows of all, one call's after the other's."""
    leaves = [_join_leaves(calls, position) for position in range(len(calls[0].leaves))]
    args, kwargs = tree_unflatten(leaves, calls[0].structure)
    return args, kwargs


def split(output: Any, calls: Sequence[Call]) -> list[Any]:
    """Each call's part of the joined call's output.

    Raises:
        ValueError: if the output has not a row for every row of the sample.
    """
    rows = [call.rows for call in calls]
    leaves, structure = tree_flatten(output)
    parts = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            if tensors(leaf):  # an object that is not taken apart
                raise ValueError(f"the denoiser's output holds tensors in a {type(leaf).__name__}")
            parts.append([leaf] * len(calls))
        elif leaf.ndim and len(leaf) == sum(rows):
            parts.append(list(leaf.split(rows)))
        else:
            raise ValueError("the denoiser's output has not a row for every row of its input")
    return [tree_unflatten(list(part), structure) for part in zip(*parts, strict=True)]


def are_finite(output: Any) -> bool:
    """Whether the output holds neither NaN nor infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(output))


def difference(output: Any, expected: Any) -> float:
    """How far two outputs are apart, relative to the second and to the root of their precision.

    Below one it is float rounding; infinite for outputs of other shapes.
    """
    pairs = list(zip(_tensors(output), _tensors(expected), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return math.inf
    apart = [
        float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))
        / torch.finfo(b.dtype).eps ** 0.5
        for a, b in pairs
        if b.is_floating_point()
    ]
    return max(apart, default=0.0)


def _join_leaves(calls: Sequence[Call], position: int) -> Any:
    leaves = [call.leaves[position] for call in calls]
    first = leaves[0]
    if calls[0].has_row(first):
        return torch.cat(leaves)
    if _is_number(first) and not all(torch.equal(leaf, first) for leaf in leaves):
        return torch.cat(
            [leaf.reshape(1).expand(call.rows) for leaf, call in zip(leaves, calls, strict=True)]
        )
    return first


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.numel() == 1


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return a is b or (isinstance(a, _NUMBERS) and a == b)


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
