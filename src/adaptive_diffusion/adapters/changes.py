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
from collections.abc import Container, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.containers import address_of, leaves, version_of

__all__ = ["Arguments", "Attributes"]

_SCALARS = (bool, int, float, complex, str)
_READABLE = (*_SCALARS, bytes, list)
_COPIES = 3  # moves in a row until a tensor that is written over is not copied any more
_RESTS_OF_NUMBERS = 2  # second-order schedulers pass a timestep twice


class Arguments:
    """The arguments of one denoiser call of an iteration, from iteration to iteration."""

    def __init__(self) -> None:
        self._seen: list[_Value] | None = None
        self._late: list[Tensor] = []

    def have_changed(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        after_skip: bool = False,
        beside: Container[int] = (),
    ) -> bool:
        """Takes in a call's arguments; whether a resting one is another than before.

        Args:
            args: by position.
            kwargs: by name.
            after_skip: the iteration before was not computed: what follows the denoiser's outputs
                (self-conditioning) has rested for that alone.
            beside: addresses of storages that don't count: what a ControlNet has answered.
        """
        values = [
            None if isinstance(leaf, Tensor) and address_of(leaf) in beside else leaf
            for leaf in map(_readable, leaves((args, kwargs)))
            if isinstance(leaf, (Tensor, *_READABLE))
        ]
        if self._seen is None or len(self._seen) != len(values):
            changed = self._seen is not None
            self._seen = [_Value(value) for value in values]
            return changed
        pairs = zip(self._seen, values, strict=True)  # all are to be taken in, so no short cut
        return any([seen.changes_to(new, after_skip, self._late) for seen, new in pairs])

    def have_changed_meanwhile(self) -> bool:
        """What was compared on the device since this was last asked. Waits for it."""
        late, self._late = self._late, []
        return bool(late) and bool(torch.stack(late).any())


class _Value:
    """One argument: its latest value, and for how many steps it has rested."""

    def __init__(self, value: Any) -> None:
        self._rests = self._moves = self._address = 0
        self._was_seen_to_move = self._is_copy = False
        self._keep(value)

    def changes_to(self, value: Any, after_skip: bool, late: list[Tensor]) -> bool:
        """Takes in the next value; whether it differs from one that rested."""
        is_still = self._is_still(value, late)
        if after_skip and is_still and self._was_seen_to_move:
            return False
        is_number = value.ndim < 2 if isinstance(value, Tensor) else not isinstance(value, bytes)
        rested = self._rests >= (_RESTS_OF_NUMBERS if is_number else 1)
        self._rests = self._rests + 1 if is_still else 0
        self._was_seen_to_move = is_still is False and not rested  # else it may rest again
        self._keep(value, bool(is_still))
        return rested and not is_still

    def _is_still(self, value: Any, late: list[Tensor]) -> bool | None:
        """Whether it is the value before; None if that was written over, and no copy is held."""
        if not isinstance(value, Tensor):
            return type(value) is type(self._held) and bool(value == self._held)
        before = self._held() if isinstance(self._held, weakref.ref) else self._held
        if not isinstance(before, Tensor):
            return False
        version = version_of(value)
        if version is not None and version == self._version and _is_same(value, before):
            return True
        if self._was_seen_to_move and not self._is_copy:
            return False
        if version_of(before) != self._version:
            return None
        return self._equals(value, before, late)

    def _equals(self, value: Tensor, before: Tensor, late: list[Tensor]) -> bool:
        if (value.shape, value.dtype, value.device) != (before.shape, before.dtype, before.device):
            return False
        if (
            _can_be_read(value) or not self._rests
        ):  # at first all is computed, and may be waited for
            return torch.equal(value, before)
        late.append((value != before).any())
        return True

    def _keep(self, value: Any, is_still: bool = True) -> None:
        """Tensors that rest are held; of others it is enough to recognise them.

        Of one that is written over a copy is held: what is written may be the same again.
        """
        if not isinstance(value, Tensor):
            self._held, self._version, self._is_copy = value, None, False
            return
        before = self._address
        self._address = address_of(value)
        in_place = before == self._address
        written_over = in_place and (self._is_copy or not is_still)
        self._moves = self._moves + 1 if self._was_seen_to_move else 0
        self._version = version_of(value)
        self._is_copy = self._version is None or (written_over and self._moves <= _COPIES)
        if self._is_copy:
            self._held = value.clone()
            self._version = version_of(self._held)
        else:
            self._held = weakref.ref(value) if self._was_seen_to_move else value


def _readable(leaf: Any) -> Any:
    """What an array of NumPy's holds, which does not count how often it is written into."""
    if isinstance(leaf, Tensor) or not (hasattr(leaf, "__array__") and hasattr(leaf, "tobytes")):
        return leaf
    return leaf.tolist() if leaf.ndim < 2 else leaf.tobytes()


def _can_be_read(tensor: Tensor) -> bool:
    """Whether its numbers are at hand without waiting for a device."""
    return tensor.device.type == "cpu"


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


_TORCHS_OWN = frozenset(vars(nn.Module()))
_LIBRARIES = ("diffusers.", "transformers.", "peft.")
_NO_SCALES = frozenset({"eps", "epsilon", "dropout", "p", "_internal_dict"})


class Attributes:
    """Numbers and texts that hold in a pipeline and its modules: scales, adapters, guidance.

    And how often their weights have been written into. What a module changes during its own call is
    its own affair: `note` takes that in.

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
        if changed:
            self._collect()
        else:
            self._values, self._held = values, held
        return changed

    def differ(self) -> bool:
        """Whether something is not as it was at the last look; takes nothing in."""
        try:
            values, held = self._read()
        except LookupError:
            return True
        return values != self._values or not all(map(operator.is_, held, self._held))

    def note(self) -> None:
        """Takes in what there is now, as no change."""
        try:
            self._values, self._held = self._read()
        except LookupError:
            self._collect()

    def _read(self) -> tuple[list[Any], list[Any]]:
        """All values, which are compared by what they are, and all objects, by which they are."""
        values = [holder[key] for holder, key in self._places]
        values += [weight._version for weight in self._weights]
        values += [len(each) for each in self._sized]
        return values, [holder[key] for holder, key in self._references]

    def _rested_ones_moved(self, values: list[Any], held: list[Any]) -> bool:
        pairs = enumerate(zip(values, self._values, strict=True))
        moved = [i for i, (new, old) in pairs if new != old]
        pairs = enumerate(zip(held, self._held, strict=True), start=len(values))
        moved += [i for i, (new, old) in pairs if new is not old]
        rested = [self._looks - self._moved_at[i] > _RESTS_OF_NUMBERS for i in moved]
        for i in moved:
            self._moved_at[i] = self._looks
        return any(rested)

    def _collect(self) -> None:
        self._places: list[tuple[Any, Any]] = []
        self._references: list[tuple[Any, Any]] = []
        self._weights: list[Tensor] = []
        self._sized: list[Any] = []  # whose entries may come and go
        for each in self._objects:
            is_module = isinstance(each, nn.Module)
            for part in each.modules() if is_module else [each]:
                if isinstance(part, nn.Module) and isinstance(part._modules, dict):  # not scripted
                    self._references += [(part._modules, name) for name in part._modules]
                if not type(part).__module__.startswith("torch."):
                    self._add(vars(part), _has_many_numbers(part), is_module)
            if is_module:
                held = (*each.parameters(), *each.buffers())
                self._weights += [tensor for tensor in held if not tensor.is_inference()]
        self._values, self._held = self._read()
        self._moved_at = [self._looks] * (len(self._values) + len(self._held))

    def _add(self, attributes: dict[str, Any], has_many_numbers: bool, is_module: bool) -> None:
        """Of the whole numbers in a library's modules none is a scale, and there are many."""
        self._sized.append(attributes)
        scalars = (float, str) if has_many_numbers else _SCALARS
        for name, value in attributes.items():
            if name in _TORCHS_OWN or name in _NO_SCALES:
                continue
            if isinstance(value, scalars):
                self._places.append((attributes, name))
            elif isinstance(value, (list, dict)):
                self._references.append((attributes, name))
                self._add_entries(value)
            elif is_module and _is_plain_object(value):
                self._references.append((attributes, name))
                self._add(vars(value), has_many_numbers, is_module=False)

    def _add_entries(self, container: Any) -> None:
        self._sized.append(container)
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        self._places += [(container, key) for key, value in entries if isinstance(value, _SCALARS)]


def _has_many_numbers(part: Any) -> bool:
    return isinstance(part, nn.Module) and type(part).__module__.startswith(_LIBRARIES)


def _is_plain_object(value: Any) -> bool:
    """An attention processor, say."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (nn.Module, Tensor, type))
        and type(value).__module__.split(".")[0] not in ("torch", "builtins", "functools")
    )
