"""What tensors may be handed over in, from one function of a pipeline to another."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

__all__ = ["pack", "unpack"]


@dataclass
class _ModelOutput(BaseOutput):
    first: Any = None
    second: Any = None


@dataclass
class _Dataclass:
    first: Any
    second: Any = None


@dataclass(frozen=True)
class _Frozen:
    first: Any
    second: Any = None
    made: int = dataclasses.field(default=0, init=False)


@dataclass(slots=True)
class _Slots:
    first: Any
    second: Any = None


class _Object:
    """As the classes that attrs and pydantic make: arguments by name, kept under their names."""

    def __init__(self, *, first: Any, second: Any = None) -> None:
        self.first = first
        self.second = second


class _SlotsObject:
    __slots__ = ("first", "second")

    def __init__(self, first: Any, second: Any = None) -> None:
        self.first = first
        self.second = second


class _Mapping(Mapping[str, Any]):
    """Read-only, and made from names alone."""

    def __init__(self, **items: Any) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@dataclass
class _Picky:
    """Can only be made from what it is not made of."""

    given: InitVar[tuple[Any, ...]]
    first: Any = dataclasses.field(init=False)
    second: Any = dataclasses.field(init=False, default=None)

    def __post_init__(self, given: tuple[Any, ...]) -> None:
        if not isinstance(given, tuple):
            raise TypeError("a tuple is wanted")
        self.first, self.second = (*given, None)[:2]


class _Subclass(Tensor):
    """A tensor of another type."""


_Named = namedtuple("_Named", ["first", "second"], defaults=[None])


def _nested(first: Any, **rest: Any) -> Any:
    return {"kind": "nested", "parts": (_Frozen(first, **rest), [None, 3])}


_MAKERS: dict[str, Callable[..., Any]] = {
    "tuple": lambda **named: tuple(named.values()),
    "list": lambda **named: list(named.values()),
    "model output": _ModelOutput,
    "dataclass": _Dataclass,
    "frozen dataclass": _Frozen,
    "slots dataclass": _Slots,
    "plain object": _Object,
    "slots object": _SlotsObject,
    "namespace": SimpleNamespace,
    "dict": dict,
    "ordered dict": OrderedDict,
    "mapping": _Mapping,
    "namedtuple": _Named,
    "user dict": UserDict,
    "picky dataclass": lambda **named: _Picky(tuple(named.values())),
    "nested": _nested,
}
_NAMES = ("first", "second")


def pack(kind: str, tensors: list[Tensor], table: Tensor | None = None) -> Any:
    """One or two tensors in a container of this kind."""
    if kind in ("tensor", "one buffer"):
        return tensors[0]
    if kind == "tensor subclass":
        return tensors[0].as_subclass(_Subclass)
    if kind == "rows":
        return list(tensors[0])
    if kind == "with a table":
        return (*tensors, table, None, 3)
    if kind == "numpy":
        return tensors[0].float().numpy()
    if kind == "numbers":
        return tensors[0].tolist()
    if kind == "packed":  # row r has r + 1 tokens, one after the other, between two bounds
        counts = torch.arange(len(tensors[0]) + 1)
        return tensors[0].repeat_interleave(counts[1:], 0), counts.cumsum(0)
    return _MAKERS[kind](**dict(zip(_NAMES, tensors, strict=False)))


def unpack(kind: str, value: Any, count: int = 1) -> list[Tensor]:
    """The tensors that `pack` has put in.

    Raises:
        TypeError: if it is another container.
    """
    if kind in ("tensor", "one buffer"):
        return [_checked(value, Tensor)]
    if kind == "tensor subclass":
        return [_checked(value, _Subclass).as_subclass(Tensor)]
    if kind == "rows":
        return [torch.stack(_checked(value, list))]
    if kind == "with a table":
        return list(_checked(value, tuple)[:count])
    if kind in ("numpy", "numbers"):
        return [torch.as_tensor(value)]
    if kind == "packed":
        tokens, bounds = _checked(value, tuple)
        return [tokens[bounds[:-1]]]
    if kind == "nested":
        return unpack("frozen dataclass", value["parts"][0], count)
    maker = _MAKERS[kind]
    if isinstance(maker, type):
        _checked(value, maker)
    if kind in ("tuple", "list"):
        return list(value[:count])
    if isinstance(value, Mapping) and kind != "model output":
        return [value[name] for name in _NAMES[:count]]
    return [getattr(value, name) for name in _NAMES[:count]]


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {kind.__name__} was packed, and a {type(value).__name__} arrived")
    return value
