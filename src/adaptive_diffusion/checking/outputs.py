"""What a pipeline's call has made, as tensors that can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.containers import items
from adaptive_diffusion.adapters.diffusers.components import sampling_rate
from adaptive_diffusion.numerics.metrics import psnr
from adaptive_diffusion.numerics.spectrogram import spectrogram

__all__ = ["Outputs"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """The pictures, clips, sounds or latents of one call.

    Attributes:
        arrays: all that it made, on the CPU; a row for each sample.
        sampling_rate: of sounds, which are compared by their spectrograms; None for all else.
    """

    arrays: list[Tensor]
    sampling_rate: int | None = None

    @classmethod
    def of(cls, result: Any, pipe: Any) -> Outputs:
        """Everything in a call's result that has numbers to compare."""
        arrays = [array.detach().cpu() for array in _arrays(result)]
        makes_sounds = getattr(result, "audios", None) is not None
        return cls(arrays, sampling_rate(pipe) if makes_sounds else None)

    def __len__(self) -> int:
        """How many samples there are, as far as can be told."""
        return len(self.arrays[0]) if self.arrays and self.arrays[0].ndim else 0

    @property
    def is_finite(self) -> bool:
        """Whether all values are numbers."""
        return all(bool(array.isfinite().all()) for array in self.arrays)

    def of_sample(self, index: int, samples: int) -> Outputs:
        """Those of one sample of a batch."""
        batched = [each for each in self.arrays if each.ndim and len(each) % samples == 0]
        shares = [(each, len(each) // samples) for each in batched]
        own = [each[index * share : (index + 1) * share] for each, share in shares]
        return Outputs(own, self.sampling_rate)

    def decibels(self, references: Outputs) -> float:
        """The PSNR to another call's outputs, in dB: of the worst sample and array.

        Infinite where all are equal to the last bit; minus infinity where they can't be compared,
        since their shapes differ or values are not numbers.
        """
        if len(self.arrays) != len(references.arrays):
            return -math.inf
        pairs = zip(self.arrays, references.arrays, strict=True)
        return min((self._decibels(*pair) for pair in pairs), default=math.inf)

    def _decibels(self, array: Tensor, reference: Tensor) -> float:
        if _equal(array, reference):
            return math.inf
        if array.shape != reference.shape:
            return -math.inf
        if self.sampling_rate is not None:
            array, reference = (_seen(each, self.sampling_rate) for each in (array, reference))
        if array.ndim < 2:
            array, reference = array.reshape(1, -1), reference.reshape(1, -1)
        worst = psnr(array, reference, _range_of(reference)).min().item()
        return -math.inf if math.isnan(worst) else worst


def _arrays(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "__array_interface__"):  # NumPy's arrays and PIL's pictures
        yield _as_tensor(value)
    elif isinstance(value, (list, tuple)) and value and all(map(_is_picture, value)):
        pictures = [_as_tensor(each) for each in value]
        alike = len({each.shape for each in pictures}) == 1
        yield from [torch.stack(pictures)] if alike else pictures
    else:
        for item in items(value):
            yield from _arrays(item)


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getbands")


def _as_tensor(array: Any) -> Tensor:
    import numpy as np

    found = np.array(array)
    return torch.from_numpy(found) if found.dtype.kind in "biuf" else torch.empty(0)


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or (
        a.is_floating_point() and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    )


def _seen(sounds: Tensor, rate: int) -> Tensor:
    """The spectrograms of sounds `(B, N)` or `(B, channels, N)`."""
    return spectrogram(sounds.float().reshape(-1, sounds.shape[-1]), rate)


def _range_of(values: Tensor) -> float:
    """Of pictures the range that they may have, of anything else the one that they have."""
    if values.dtype == torch.uint8:
        return 255.0
    values = values.double()
    low, high = values.min().item(), values.max().item()
    return 1.0 if low >= 0 and high <= 1 else high - low or 1.0
