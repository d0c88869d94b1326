"""Counting what is launched, and what is waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["counted"]

_READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")


class _Count(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators[str(func)] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What runs inside, by operator; under "reads", how often a value is brought to the host.

    Reads are counted where Python asks for them: on the CPU some need no operator.
    """
    count = _Count()

    def noted(read: Any) -> Any:
        def call(self: Tensor, *args: Any, **options: Any) -> Any:
            count.operators["reads"] += 1
            return read(self, *args, **options)

        return call

    with ExitStack() as patches, torch.no_grad(), count:
        for name in _READS:
            patches.enter_context(patch.object(Tensor, name, noted(getattr(Tensor, name))))
        yield count.operators
