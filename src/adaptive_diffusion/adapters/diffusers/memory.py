"""All that a scheduler remembers from step to step, so that its steps can be taken again.

A scheduler may keep its past in attributes, in lists, deques, dicts or objects of its own, in
`threading.local`, in what a function that stands for its `step` has closed over, or in globals that
its methods name. All of these are looked through, and what can change is put back *in place*, so
that whoever holds it too sees the same. Generators are found on the way; where they stand is
not part of a snapshot, since every step brings its own noise back.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.containers import version_of
from adaptive_diffusion.adapters.diffusers.randomness import (
    Source,
    default_source,
    global_sources,
    is_source,
    source_of,
    standing_at,
)

__all__ = ["Memory", "Snapshot", "step_parameters"]

_PLAIN_SLOTS = (deque, types.SimpleNamespace)
_USUAL = ("model_output", "timestep", "sample")
_DEPTH = 6  # containers within containers; deeper ones stay as they are
_FOREIGN = ("torch", "torchsde", "logging", "numpy", "diffusers.configuration_utils")
_DRAWS = frozenset({"randn", "randn_like", "rand", "rand_like", "normal", "normal_"})
_OTHERS_DRAW = frozenset({"random", "standard_normal", "gauss"})  # NumPy's and Python's


@dataclass(frozen=True)
class _Saved:
    """One thing that can change, and what was in it."""

    holder: Any
    content: Any


Snapshot = list[_Saved]


class Memory:
    """What one scheduler remembers in one loop; to be made before the loop's first step.

    Attributes:
        parameters: the names of the step's parameters after the scheduler itself.
        sources: the generators that the scheduler has of its own.
        writes: whether a step was seen to write into what it is given.
    """

    def __init__(self, scheduler: Any, step: Callable[..., Any]) -> None:
        self.parameters = step_parameters(step)
        self.writes = False
        taken = inspect.unwrap(step)
        self._is_known = _is_diffusers_own(type(scheduler)) and _is_diffusers_own(taken)
        functions = _functions(scheduler, step)
        self._roots = [getattr(scheduler, "__dict__", {}), *(_closure(each) for each in functions)]
        if not self._is_known:
            self._roots += [_globals(each) for each in functions]
            self._roots += [scheduler, *_own_classes(scheduler)]
        own = getattr(scheduler, "__dict__", None)
        self._changing: dict[int, Any] = {} if own is None else {id(own): own}
        self._has_learned = False
        self._names = frozenset(name for each in functions for name in each.__code__.co_names)
        found = list(_walk(self._roots))
        self.sources = [source_of(value) for value in found if is_source(value)]
        self._constants = {id(value): value for value in found if isinstance(value, Tensor)}
        self._versions = {key: version_of(value) for key, value in self._constants.items()}

    def unnamed_sources(self, device: torch.device) -> list[Source]:
        """Sources that the scheduler's code draws from without being given them.

        Others that it might draw from are not watched: what another thread draws from them would be
        taken for the scheduler's noise.
        """
        found = global_sources(device) if self._names & _OTHERS_DRAW else []
        if self._names & _DRAWS and not found:
            found = [default_source(device)]
        return found

    def unheard(self, device: torch.device) -> AbstractContextManager[None]:
        """Lets a step of unknown code run without moving a source that others draw from."""
        return standing_at([] if self._is_known else global_sources(device))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Learns what a step changes: that alone is the scheduler's, and put back.

        What else can be reached (a log that the pipeline keeps, say) is somebody else's.
        """
        if self._is_known:
            yield
            return
        before = [(value, _fingerprint(value)) for value in _walk(self._roots)]
        yield
        self._has_learned = True
        for value, fingerprint in before:
            if fingerprint is not None and _fingerprint(value) != fingerprint:
                self._changing[id(value)] = value

    def save(self) -> Snapshot:
        """What the scheduler remembers now."""
        return [_Saved(value, content) for value, content in self._contents()]

    def restore(self, snapshot: Snapshot) -> None:
        """Puts everything back; the snapshot can be used again."""
        for saved in snapshot:
            _put_back(saved.holder, self._copied(saved.content))

    def _contents(self) -> Iterator[tuple[Any, Any]]:
        for value in self._changing.values() if self._has_learned else _walk(self._roots):
            content = _content(value)
            if content is not None:
                yield value, self._copied(content)

    def _copied(self, content: Any) -> Any:
        if isinstance(content, dict):
            return {key: self._kept(item) for key, item in content.items()}
        if isinstance(content, list):
            return [self._kept(item) for item in content]
        return content.copy()

    def _kept(self, item: Any) -> Any:
        """A tensor that may be written into is kept as a copy; others as they are."""
        if not isinstance(item, Tensor):
            return tuple(map(self._kept, item)) if type(item) is tuple else item
        is_constant = self._constants.get(id(item)) is item and not item._is_view()
        if is_constant and version_of(item) == self._versions[id(item)] is not None:
            return item
        return item.detach().clone()


def _walk(roots: list[Any]) -> Iterator[Any]:
    """All values reachable from the roots, each once."""
    seen: set[int] = set()
    waiting = [(root, 0) for root in roots]
    while waiting:
        value, depth = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if depth < _DEPTH:
            waiting += [(item, depth + 1) for item in _inside(value)]


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [] if _is_foreign(value) else list(value.values())
    if isinstance(value, (list, tuple, deque, set)):
        return list(value)
    if isinstance(value, types.FunctionType):
        is_ours = value.__module__.startswith("adaptive_diffusion")
        return [getattr(value, "__wrapped__", None)] if is_ours else _closure(value)
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, value.keywords]
    if isinstance(value, types.CellType):
        return _in_cell(value)
    if _has_slots_or_is_class(value):
        return list(_settable(value).values())
    return [vars(value)] if _may_change(value) else []


def _may_change(value: Any) -> bool:
    """Whether it is an object with attributes of its own to look through."""
    if isinstance(value, (type, types.ModuleType, nn.Module, Tensor)) or is_source(value):
        return False
    is_pipeline = hasattr(value, "components")
    return hasattr(value, "__dict__") and not is_pipeline and not _is_foreign(value)


def _is_foreign(value: Any) -> bool:
    return type(value).__module__.startswith(_FOREIGN)


def _content(value: Any) -> Any:
    """What has to be kept of a value; None if it can't change or holds nothing itself."""
    if isinstance(value, dict):
        return None if _is_foreign(value) else dict(value)
    if isinstance(value, (list, deque)):
        return list(value)
    if isinstance(value, types.CellType):
        return _in_cell(value) or None
    if isinstance(value, set):
        return set(value)
    if _has_slots_or_is_class(value):
        return _settable(value)
    return value if _is_array(value) and value.flags.writeable else None


def _fingerprint(value: Any) -> Any:
    """What shows that something is in a value that was not there; None if it holds nothing."""
    content = _content(value)
    if isinstance(content, dict):
        return [(key, _mark(item)) for key, item in content.items()]
    if isinstance(content, (list, set)):
        return list(map(_mark, content))
    return None if content is None else content.tobytes()


def _mark(item: Any) -> Any:
    if isinstance(item, Tensor):
        return id(item), version_of(item)
    return item if isinstance(item, (bool, int, float, str)) else id(item)


def _put_back(holder: Any, content: Any) -> None:
    if isinstance(holder, types.CellType):
        holder.cell_contents = content[0]
    elif _is_array(holder):
        holder[...] = content
    elif _has_slots_or_is_class(holder):
        for name in _settable(holder).keys() - content.keys():
            delattr(holder, name)
        for name, value in content.items():
            setattr(holder, name, value)
    elif isinstance(holder, list):
        holder[:] = content
    elif isinstance(holder, deque):
        holder.clear()
        holder.extend(content)
    else:
        holder.clear()
        holder.update(content)


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "flags")


def step_parameters(step: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a step's parameters after the scheduler; the usual ones where it has none."""
    names = tuple(inspect.signature(step).parameters)[1:]
    return names if "model_output" in names else _USUAL


def _functions(scheduler: Any, step: Callable[..., Any]) -> list[types.FunctionType]:
    """The functions that a step may run: the step itself, and a class's own methods."""
    own = [value for each in _own_classes(scheduler) for value in vars(each).values()]
    unwrapped = [inspect.unwrap(value) for value in (step, *own) if callable(value)]
    return [value for value in unwrapped if isinstance(value, types.FunctionType)]


def _own_classes(scheduler: Any) -> list[type]:
    """Its classes that are not of diffusers: they may keep something in their attributes."""
    return [
        each
        for each in type(scheduler).__mro__
        if not _is_diffusers_own(each) and each is not object
    ]


def _has_slots_or_is_class(value: Any) -> bool:
    if isinstance(value, type):
        return True
    return "__slots__" in vars(type(value)) and not isinstance(value, (Tensor, *_PLAIN_SLOTS))


def _settable(value: Any) -> dict[str, Any]:
    """The attributes of a class that are no code, or those in an object's slots."""
    if isinstance(value, type):
        code = (types.FunctionType, staticmethod, classmethod, property, types.MemberDescriptorType)
        return {
            name: held
            for name, held in vars(value).items()
            if not name.startswith("__") and not isinstance(held, (*code, type))
        }
    names = vars(type(value))["__slots__"]
    names = (names,) if isinstance(names, str) else names
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _is_diffusers_own(code: Any) -> bool:
    return getattr(code, "__module__", "").split(".")[0] == "diffusers"


def _closure(function: Any) -> list[Any]:
    return list(getattr(function, "__closure__", None) or ())


def _globals(function: types.FunctionType) -> list[Any]:
    """What a function's code may change among its module's globals."""
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    return [
        value for value in named if isinstance(value, (list, dict, deque, set)) or is_source(value)
    ]


def _in_cell(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # nothing yet
        return []
