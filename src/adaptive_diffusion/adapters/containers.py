"""Tensors inside whatever a denoiser takes and answers with.

A *container* is a list, tuple, deque, mapping, or a *record*: an object that only holds values,
such as a dataclass, an attrs class, a namespace or a plain class instance. All functions go into
containers of containers, and never change what they are given.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "address_of",
    "has_rows",
    "is_plain",
    "items",
    "leaves",
    "map_items",
    "map_tensors",
    "rows_taken",
    "tensors",
    "version_of",
]

_SEQUENCES = (list, tuple, deque)
_MAPPINGS = (MutableMapping, MappingProxyType)  # others are known by their attributes
_PLAIN = (Tensor, str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device)
_NO_RECORDS = (Tensor, nn.Module, torch.Generator, type)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with `function` applied to every tensor in it; containers keep their types."""
    if isinstance(value, Tensor):
        return function(value)
    return map_items(functools.partial(map_tensors, function), value)


def has_rows(value: Any, count: int) -> bool:
    """Whether it is a tensor of so many rows."""
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == count


def rows_taken(value: Any, rows: Tensor, count: int) -> Any:
    """`value` with these rows alone of every tensor in it that has `count` of them."""
    return map_tensors(
        lambda each: each[rows.to(each.device)] if has_rows(each, count) else each, value
    )


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a value, in the order in which `map_tensors` comes to them."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def leaves(value: Any, within: tuple[Any, ...] = ()) -> Iterator[Any]:
    """What is in a value and is no container itself, in a fixed order.

    A container that holds itself comes as a leaf where it does.
    """
    if _is_container(value) and not any(value is outer for outer in within):
        for item in items(value):
            yield from leaves(item, (*within, value))
    else:
        yield value


def items(value: Any) -> Iterable[Any]:
    """What is in a container; nothing is in anything else."""
    if isinstance(value, _MAPPINGS):
        return value.values()
    if isinstance(value, _SEQUENCES):
        return value
    return _attributes(value).values() if _is_record(value) else ()


def map_items(function: Callable[[Any], Any], value: Any) -> Any:
    """A container with `function` applied to each of its `items`; anything else as it is."""
    if isinstance(value, _MAPPINGS):
        return _map_mapping(function, value)
    if isinstance(value, _SEQUENCES):
        return _map_sequence(function, value)
    if _is_record(value):
        mapped = copy.copy(value)
        for name, item in _attributes(value).items():
            object.__setattr__(mapped, name, function(item))  # frozen ones, too
        return mapped
    return value


def is_plain(leaf: Any) -> bool:
    """Whether nothing can be hidden in a leaf: a tensor, a number, a text.

    An object of unknown kind may hold tensors where nobody looks for them.
    """
    return isinstance(leaf, _PLAIN)


def address_of(tensor: Tensor) -> int:
    """Where its numbers stand; the same for all views of one storage."""
    return tensor.untyped_storage().data_ptr()


def version_of(tensor: Tensor) -> int | None:
    """How often it was written into; None in inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def _is_container(value: Any) -> bool:
    return isinstance(value, (*_MAPPINGS, *_SEQUENCES)) or _is_record(value)


def _is_record(value: Any) -> bool:
    """Whether it is an object whose attributes are all that it is."""
    if isinstance(value, _NO_RECORDS) or callable(value):
        return False
    return hasattr(value, "__dict__") or any(
        "__slots__" in vars(each) for each in type(value).__mro__
    )


def _attributes(record: Any) -> dict[str, Any]:
    slots = [
        name
        for each in type(record).__mro__
        for name in _as_tuple(vars(each).get("__slots__", ()))
        if not name.startswith("__")
    ]
    held = {name: getattr(record, name) for name in slots if hasattr(record, name)}
    return {**held, **getattr(record, "__dict__", {})}


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _map_mapping(function: Callable[[Any], Any], value: Any) -> Any:
    mapped = {key: function(item) for key, item in value.items()}
    if type(value) is dict:
        return mapped
    if isinstance(value, MutableMapping):
        copied: Any = copy.copy(value)  # keeps a default, an order, attributes
        for key, item in mapped.items():
            copied[key] = item
        return copied
    return type(value)(mapped)


def _map_sequence(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, tuple):
        kind = type(value)
        return (
            kind(*map(function, value)) if hasattr(value, "_fields") else kind(map(function, value))
        )
    copied = copy.copy(value)
    for position, item in enumerate(value):
        copied[position] = function(item)
    return copied
