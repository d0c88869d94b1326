"""Tensors are found, changed and put back in whatever holds them."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from adaptive_diffusion.adapters.containers import (
    is_plain,
    leaves,
    map_tensors,
    tensors,
)

Pair = namedtuple("Pair", ["sample", "more"])


@dataclasses.dataclass
class Plain:
    sample: Tensor
    name: str = "plain"


@dataclasses.dataclass(frozen=True)
class Frozen:
    sample: Tensor


@dataclasses.dataclass(slots=True)
class Slots:
    sample: Tensor


class Object:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


class SlottedObject:
    __slots__ = "sample"

    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


class ReadOnly(Mapping[str, Any]):
    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class OwnList(list[Any]):
    pass


CONTAINERS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda tensor: tensor,
    "tuple": lambda tensor: (tensor, None),
    "list": lambda tensor: [tensor, 3],
    "own list": lambda tensor: OwnList([tensor]),
    "deque": lambda tensor: deque([tensor], maxlen=1),
    "named tuple": lambda tensor: Pair(tensor, tensor),
    "dict": lambda tensor: {"sample": tensor},
    "ordered dict": lambda tensor: OrderedDict(sample=tensor),
    "dict with a default": lambda tensor: defaultdict(list, sample=tensor),
    "user dict": lambda tensor: UserDict(sample=tensor),
    "mapping proxy": lambda tensor: MappingProxyType({"sample": tensor}),
    "mapping": lambda tensor: ReadOnly({"sample": tensor}),
    "model output": lambda tensor: UNet2DOutput(sample=tensor),
    "dataclass": Plain,
    "frozen dataclass": Frozen,
    "dataclass with slots": Slots,
    "namespace": lambda tensor: SimpleNamespace(sample=tensor),
    "object": Object,
    "object with slots": SlottedObject,
    "nested": lambda tensor: Plain(sample=({"inner": Frozen(tensor)},)),  # type: ignore[arg-type]
    "extremes": lambda tensor: torch.max(torch.stack([tensor, tensor]), dim=0),
}
"""Makes containers of one or more tensors, all alike."""


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_tensors_are_changed_in_a_container_of_the_same_kind(make: Callable[..., Any]) -> None:
    tensor = torch.arange(3.0)
    given = make(tensor)
    count = len(tensors(given))
    assert count >= 1
    mapped = map_tensors(lambda each: each + 1, given)
    assert type(mapped) is type(given)
    assert torch.equal(tensors(mapped)[0], tensor + 1)
    assert len(tensors(mapped)) == count
    assert torch.equal(tensors(given)[0], torch.arange(3.0)), "what was given has been changed"
    assert all(map(is_plain, leaves(given)))


def test_what_is_beside_the_tensors_is_kept() -> None:
    mapped = map_tensors(torch.zeros_like, defaultdict(list, sample=torch.ones(2)))
    assert mapped["not there"] == []
    assert map_tensors(torch.zeros_like, Plain(torch.ones(2), "named")).name == "named"
    output = map_tensors(torch.zeros_like, UNet2DOutput(sample=torch.ones(2)))
    assert torch.equal(output.sample, output["sample"])
    assert torch.equal(output.sample, output[0])


def test_a_container_within_itself_is_come_to_once() -> None:
    ring: list[Any] = [torch.ones(1)]
    ring.append(ring)
    assert [leaf for leaf in leaves(ring) if isinstance(leaf, Tensor)] == ring[:1]


def test_an_object_of_unknown_kind_is_no_plain_answer() -> None:
    assert [is_plain(leaf) for leaf in leaves([torch.ones(1), lambda: None])] == [True, False]
