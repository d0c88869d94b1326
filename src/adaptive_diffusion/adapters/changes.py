"""Noticing that a denoiser is asked something else than before: a prompt, a scale, a window.

Forecasts are drawn through outputs that belong together. Between two steps the sample and the
timestep change, and whatever follows them; a value that has rested and changes now is another
question. Each value is therefore *moving*, from one step to the next, or *resting*, and a change
is one of a resting value.

Tensors are compared by identity and version first, which costs nothing. One that is made anew at
every step is compared by its values: at once on the CPU, elsewhere on the device, and the answer is
read at the next computed step.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.containers import leaves

__all__ = ["Arguments", "Attributes"]

_SCALARS = (bool, int, float, complex, str)
_RESTS_OF_NUMBERS = 2  # second-order schedulers pass a timestep twice


class Arguments:
    """The arguments of one denoiser call of an iteration, from iteration to iteration."""

    def __init__(self) -> None:
        self._seen: list[_Value] | None = None
        self._late: list[Tensor] = []

    def have_changed(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Takes in a call's arguments; whether a resting one is another than before."""
        values = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, (Tensor, *_SCALARS))]
        if self._seen is None or len(self._seen) != len(values):
            changed = self._seen is not None
            self._seen = [_Value(value) for value in values]
            return changed
        # all are to be taken in, so no short cut
        return any(
            [seen.changes_to(new, self._late) for seen, new in zip(self._seen, values, strict=True)]
        )

    def have_changed_meanwhile(self) -> bool:
        """What was compared on the device since this was last asked. Waits for it."""
        late, self._late = self._late, []
        return bool(late) and bool(torch.stack(late).any())


class _Value:
    """One argument: its latest value, and for how many steps it has rested."""

    def __init__(self, value: Any) -> None:
        self._rests = 0
        self._was_seen_to_move = False
        self._keep(value)

    def changes_to(self, value: Any, late: list[Tensor]) -> bool:
        """Takes in the next value; whether it differs from one that rested."""
        moved = not self._is_still(value, late)
        is_number = not isinstance(value, Tensor) or value.ndim < 2
        rested = self._rests >= (_RESTS_OF_NUMBERS if is_number else 1)
        self._rests = 0 if moved else self._rests + 1
        self._was_seen_to_move = moved
        self._keep(value)
        return moved and rested

    def _is_still(self, value: Any, late: list[Tensor]) -> bool:
        if not isinstance(value, Tensor):
            return type(value) is type(self._held) and bool(value == self._held)
        before = self._held() if isinstance(self._held, weakref.ref) else self._held
        if not isinstance(before, Tensor):
            return False
        if _is_same(value, before):
            version = _version(value)
            if version is not None:
                return version == self._version
        elif self._was_seen_to_move:
            return False
        return self._equals(value, before, late)

    def _equals(self, value: Tensor, before: Tensor, late: list[Tensor]) -> bool:
        if value.shape != before.shape or value.dtype != before.dtype:
            return False
        if value.device != before.device or _version(before) != self._version:
            return False
        if value.device.type == "cpu":
            return torch.equal(value, before)
        if not self._rests:  # not known to rest: it will be seen to move, or not, on the device
            return torch.equal(value, before)
        late.append((value != before).any())
        return True

    def _keep(self, value: Any) -> None:
        """Tensors that rest are held; of others it is enough to recognise them."""
        self._version = _version(value) if isinstance(value, Tensor) else None
        if not isinstance(value, Tensor):
            self._held = value
        elif self._was_seen_to_move:
            self._held = weakref.ref(value)
        else:
            self._held = value if self._version is not None else value.clone()


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in the same place."""
    if a is b:
        return True
    return (
        a.device == b.device
        and a.data_ptr() == b.data_ptr() != 0
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.dtype == b.dtype
    )


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


_TORCHS_OWN = frozenset(vars(nn.Module()))
_LIBRARIES = ("diffusers.", "transformers.", "peft.")
_NO_SCALES = frozenset({"eps", "epsilon", "dropout", "p"})


@dataclass
class _Place:
    """Somewhere that a value can be read, and at which look it was last seen to move."""

    holder: Any
    key: Any
    moved_at: int = 0


class Attributes:
    """Numbers and texts that hold in a pipeline and its modules: scales, adapters, guidance.

    What a module changes during its own call is its own affair: `note` takes that in.

    Args:
        objects: the pipeline, its modules.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._objects = list(objects)
        self._looks = 0
        self._values: list[Any] = []
        self._held: list[Any] = []
        self._collect()

    def have_changed(self) -> bool:
        """Whether a value that rested is another than at the last look."""
        self._looks += 1
        try:
            values, held = self._read()
        except LookupError:  # an entry is gone
            self._collect()
            return True
        if values == self._values and all(map(operator.is_, held, self._held)):
            return False
        changed = self._rested_ones_moved(values, held)
        if changed or values[len(self._scalars) :] != self._values[len(self._scalars) :]:
            self._collect()
        else:
            self._values, self._held = values, held
        return changed

    def note(self) -> None:
        """Takes in what there is now, as no change."""
        try:
            self._values, self._held = self._read()
        except LookupError:
            self._collect()

    def _read(self) -> tuple[list[Any], list[Any]]:
        return (
            [place.holder[place.key] for place in self._scalars]
            + [weight._version for weight in self._weights]
            + [len(attributes) for attributes in self._dicts],
            [place.holder[place.key] for place in self._objects_held],
        )

    def _rested_ones_moved(self, values: list[Any], held: list[Any]) -> bool:
        moved = [
            place
            for place, new, old in zip(self._scalars, values, self._values, strict=False)
            if new != old
        ]
        moved += [
            place
            for place, new, old in zip(self._objects_held, held, self._held, strict=True)
            if new is not old
        ]
        others = len(self._scalars)  # weights written into, attributes that come and go
        grown = self._looks > _RESTS_OF_NUMBERS and values[others:] != self._values[others:]
        rested = [self._looks - place.moved_at > _RESTS_OF_NUMBERS for place in moved]
        for place in moved:
            place.moved_at = self._looks
        return grown or any(rested)

    def _collect(self) -> None:
        self._scalars: list[_Place] = []
        self._objects_held: list[_Place] = []
        self._dicts: list[dict[str, Any]] = []
        self._weights: list[Tensor] = []
        for each in self._objects:
            is_module = isinstance(each, nn.Module)
            for part in each.modules() if is_module else [each]:
                if not type(part).__module__.startswith("torch."):
                    self._add(vars(part), _has_many_numbers(part))
            if is_module:
                self._weights += [each for each in each.parameters() if not each.is_inference()]
        self._values, self._held = self._read()

    def _add(self, attributes: dict[str, Any], has_many_numbers: bool) -> None:
        """Of the whole numbers in a library's modules none is a scale, and there are many."""
        self._dicts.append(attributes)
        scalars = (float, str) if has_many_numbers else _SCALARS
        for name, value in attributes.items():
            if name in _TORCHS_OWN or name in _NO_SCALES:
                continue
            if isinstance(value, scalars):
                self._scalars.append(_Place(attributes, name, self._looks))
            elif isinstance(value, (list, dict)):
                self._objects_held.append(_Place(attributes, name, self._looks))
                self._add_entries(value)
            elif has_many_numbers and _is_plain_object(value):
                self._objects_held.append(_Place(attributes, name, self._looks))
                self._add(vars(value), has_many_numbers)

    def _add_entries(self, container: Any) -> None:
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        self._scalars += [
            _Place(container, key, self._looks)
            for key, value in entries
            if isinstance(value, _SCALARS)
        ]


def _has_many_numbers(part: Any) -> bool:
    return isinstance(part, nn.Module) and type(part).__module__.startswith(_LIBRARIES)


def _is_plain_object(value: Any) -> bool:
    """An attention processor, say."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (nn.Module, Tensor, type))
        and type(value).__module__.split(".")[0] not in ("torch", "builtins", "functools")
    )
