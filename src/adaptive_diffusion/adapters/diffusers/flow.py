"""Which module's answer reaches the scheduler's step.

What denoises is known by what it does: the scheduler steps with what it answered. So where several
modules may be the denoiser, their answers are followed through the pipeline's own arithmetic
(guidance, say), for one iteration. Tensors are known by their storage, so that views and writes in
place are followed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from adaptive_diffusion.adapters.containers import tensors

__all__ = ["Flow"]

_LEAVES_TORCH = (Tensor.numpy, Tensor.__array__, Tensor.tolist)
_WRITES = (Tensor.__setitem__,)


class Flow(TorchFunctionMode):
    """Follows what was answered from `begin` to `end`, in the thread that runs.

    Attributes:
        lost: labels of what has left torch on the way, and can't be followed further.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[int] = set()
        self._labels: dict[int, tuple[Any, set[int]]] = {}  # storages are kept, so none is reused
        self._runs = False

    def mark(self, value: Any, label: int) -> None:
        """The tensors in `value` are an answer of `label`."""
        with self.paused():
            self._mark(value, {label})
        if not self._runs:
            self._runs = True
            self.__enter__()

    def reaches(self, tensor: Tensor) -> set[int]:
        """The labels whose answers have gone into `tensor`."""
        with self.paused():
            return self._found([tensor])

    def end(self) -> None:
        """Stops following, and forgets all."""
        if self._runs:
            self._runs = False
            self.__exit__(None, None, None)
        self._labels.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not followed: a denoiser's own arithmetic is not the pipeline's."""
        if not self._runs:
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        labels = self._found(tensors((args, kwargs)))
        if labels:
            self._mark(result, labels)
            self._mark(kwargs.get("out"), labels)
            if function in _WRITES:
                self._mark(args[0], labels)
            if function in _LEAVES_TORCH:
                self.lost |= labels
        return result

    def _mark(self, value: Any, labels: set[int]) -> None:
        for tensor in tensors(value):
            key, storage = _storage(tensor)
            self._labels[key] = storage, self._labels.get(key, (storage, set()))[1] | labels

    def _found(self, given: list[Tensor]) -> set[int]:
        found: set[int] = set()
        for tensor in given:
            found |= self._labels.get(_storage(tensor)[0], (None, set()))[1]
        return found


def _storage(tensor: Tensor) -> tuple[int, Any]:
    try:
        storage = tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, or a wrapper without one
        return id(tensor), tensor
    return storage._cdata, storage
