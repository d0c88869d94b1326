"""Which rows of a denoiser call belong to which sample, and calls on some of them only.

With classifier-free guidance one call holds every sample several times, one block after the other:
`[unconditional, conditional]`. Row `block * samples + sample` belongs to that sample, in every
tensor argument that has a row per input row; nested dicts and lists too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["call_on_rows", "input_of", "map_tensors", "reason_to_stay_whole", "rows_of", "shapes"]

# Tables of positions have a row per token, not per sample: never cut, however many rows they have.
_POSITION_TABLES = frozenset(
    {
        "freqs_cis",
        "image_rotary_emb",
        "img_ids",
        "rotary_emb",
        "text_rope_pos",
        "txt_ids",
        "visual_rope_pos",
    }
)
_POSITIONS = "position_ids"  # such a table, unless it has as many rows as the denoiser's input


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with `function` applied to every tensor in it; containers keep their types."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        mapped = {key: map_tensors(function, item) for key, item in value.items()}
        container: Any = type(value)
        return container(**mapped) if dataclasses.is_dataclass(value) else container(mapped)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The noisy sample among a denoiser's arguments: the first tensor, by position or by name."""
    candidates = [*args, kwargs.get("sample"), kwargs.get("hidden_states"), *kwargs.values()]
    return next((value for value in candidates if isinstance(value, Tensor)), None)


def shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Size, ...]:
    """The shapes of all tensor arguments, which tell one branch of a step from another."""
    return tuple(tensor.shape for tensor in _tensors((args, kwargs)))


def reason_to_stay_whole(
    args: tuple[Any, ...], kwargs: dict[str, Any], sample: Tensor
) -> str | None:
    """Why a batch can't be told apart into samples, or None if it can.

    `sample` is what the scheduler steps: one row per sample.
    """
    samples = len(sample)
    given = input_of(args, kwargs)
    if given is None or given.ndim != sample.ndim:
        return "the denoiser's input is laid out differently from the scheduler's sample"
    if len(given) % samples or any(
        a < b for a, b in zip(given.shape[1:], sample.shape[1:], strict=True)
    ):
        return "the denoiser's input has other dimensions than the scheduler's sample"
    blocks = given[tuple(slice(size) for size in (len(given), *sample.shape[1:]))]
    blocks = blocks.unflatten(0, (-1, samples))
    if not torch.equal(blocks, blocks[:1].expand_as(blocks)):
        return "the denoiser's input does not repeat the samples block by block"
    for name, tensor in _named_tensors(args, kwargs):
        if name in {_POSITIONS, *_POSITION_TABLES} or not tensor.ndim:
            continue
        if len(tensor) in (1, len(given)):
            continue
        if len(tensor) % samples == 0:
            return f"the rows of the denoiser's argument {name!r} can't be matched to samples"
    return None


def rows_of(samples: list[bool], rows: int) -> list[int]:
    """The rows, of `rows` in all, that belong to the true entries of `samples`."""
    return [row for row in range(rows) if samples[row % len(samples)]]


def call_on_rows(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    samples: list[bool],
    last: Any,
) -> Any:
    """Calls the denoiser on the rows of some samples and puts the others' last outputs beside."""
    given = input_of(args, kwargs)
    assert given is not None
    total = len(given)
    index = torch.tensor(rows_of(samples, total), device=given.device)

    def gather(tensor: Tensor) -> Tensor:
        if tensor.ndim and len(tensor) == total:
            return tensor.index_select(0, index.to(tensor.device))
        return tensor

    output = call(
        *map_tensors(gather, args),
        **{
            name: value if name in _POSITION_TABLES else map_tensors(gather, value)
            for name, value in kwargs.items()
        },
    )
    parts = iter(_tensors(output))

    def scatter(tensor: Tensor) -> Tensor:
        part = next(parts)
        return tensor.index_copy(0, index.to(tensor.device), part.to(tensor.dtype))

    return map_tensors(scatter, last)


def _named_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    named = [*((str(position), value) for position, value in enumerate(args)), *kwargs.items()]
    return [(name, tensor) for name, value in named for tensor in _tensors(value)]


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a value, in the order in which `map_tensors` comes to them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
