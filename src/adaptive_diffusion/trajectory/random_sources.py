"""Where a loop's random numbers come from, and how the same ones are drawn again."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["RandomSources"]

_NOISE = {"randn", "randn_like", "rand", "rand_like", "normal", "normal_", "uniform_"}


class RandomSources(TorchFunctionMode):
    """Watches torch while it is entered, and puts every source that it saw back to where it was.

    The sources are torch's own generators, those that are handed to a torch function, and the
    global ones of numpy and of Python. Others can't be seen.

    Attributes:
        negates: while true, noise is drawn with the other sign.
    """

    def __init__(self) -> None:
        super().__init__()
        self.negates = False
        self._generators: dict[int, tuple[torch.Generator, Tensor]] = {}
        self._processor = torch.get_rng_state()
        self._accelerators = torch.cuda.get_rng_state_all() if _cuda_is_used() else []
        self._python = random.getstate()
        self._numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None

    def restore(self) -> None:
        """Puts all sources back to where they were when they were first seen."""
        torch.set_rng_state(self._processor)
        if self._accelerators:
            torch.cuda.set_rng_state_all(self._accelerators)
        for generator, state in self._generators.values():
            generator.set_state(state)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)

    def change_others(self) -> None:
        """Sets the sources outside torch to other places, so that other noise comes from them."""
        random.seed(random.getrandbits(64))
        if self._numpy is not None:
            numpy = sys.modules["numpy"]
            numpy.random.seed(numpy.random.randint(2**31))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if isinstance(generator, torch.Generator) and id(generator) not in self._generators:
            self._generators[id(generator)] = (generator, generator.get_state())
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if not self.negates or name not in _NOISE or not isinstance(result, Tensor):
            return result
        return result.neg_() if name.endswith("_") else result.neg()


def _cuda_is_used() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
