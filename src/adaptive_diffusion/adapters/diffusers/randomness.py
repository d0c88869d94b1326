"""Where random numbers may come from, and how to see and to put back where each source stands."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Source", "default_source", "global_sources", "is_source", "source_of", "standing_at"]


@dataclass(frozen=True)
class Source:
    """A source of random numbers.

    Attributes:
        state: reads where it stands; a copy.
        set_state: puts it back.
    """

    state: Callable[[], Any]
    set_state: Callable[[Any], Any]

    def has_moved(self, since: Any) -> bool:
        """Whether numbers have been drawn since it stood there."""
        return not _equal(self.state(), since)


def is_source(value: Any) -> bool:
    """Whether it is a generator of random numbers: of torch, of Python or of NumPy."""
    if isinstance(value, (torch.Generator, random.Random)):
        return True
    numpy = _numpy()
    return numpy is not None and isinstance(
        value, (numpy.random.Generator, numpy.random.RandomState)
    )


def source_of(generator: Any) -> Source:
    """A generator of torch, NumPy or Python as a source."""
    if isinstance(generator, torch.Generator):
        return Source(generator.get_state, generator.set_state)
    if isinstance(generator, random.Random):
        return Source(generator.getstate, generator.setstate)
    if hasattr(generator, "bit_generator"):
        bits = generator.bit_generator
        return Source(
            lambda: copy.deepcopy(bits.state), lambda state: setattr(bits, "state", state)
        )
    return Source(generator.get_state, generator.set_state)


def default_source(device: torch.device) -> Source:
    """Torch's own generator for a device."""
    if device.type == "cpu":
        return source_of(torch.default_generator)
    module = torch.get_device_module(device)
    module.init() if hasattr(module, "init") else None
    generators = getattr(module, "default_generators", ())
    if generators:
        index = module.current_device() if device.index is None else device.index
        return source_of(generators[index])
    return Source(module.get_rng_state, module.set_rng_state)  # mps has one device


def global_sources(device: torch.device) -> list[Source]:
    """All sources that code can draw from without being given one."""
    cpu = torch.device("cpu")
    ours = [cpu] if device.type in ("cpu", "meta") else [cpu, device]
    sources = [*map(default_source, ours), Source(random.getstate, random.setstate)]
    numpy = _numpy()
    if numpy is not None:
        sources.append(Source(numpy.random.get_state, numpy.random.set_state))
    return sources


@contextmanager
def standing_at(sources: Sequence[Source], states: Sequence[Any] | None = None) -> Iterator[None]:
    """Puts the sources at `states` (where they stand, without), and afterwards back."""
    present = [source.state() for source in sources]
    for source, state in zip(sources, present if states is None else states, strict=True):
        source.set_state(state)
    try:
        yield
    finally:
        for source, state in zip(sources, present, strict=True):
            source.set_state(state)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return all(map(_equal, a, b))
    if hasattr(a, "tobytes"):  # NumPy's arrays
        return bool(a.tobytes() == b.tobytes())
    return bool(a == b)


def _numpy() -> Any:
    """NumPy, if somebody has loaded it; else nobody draws from it."""
    return sys.modules.get("numpy")
