"""What a pipeline makes: pictures, clips and sounds.

Each can be looked at, so that all are compared and shown in the same way: of the apps, only this
module knows which of them a sample is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from adaptive_diffusion.adapters.diffusers.components import sampling_rate
from adaptive_diffusion.apps.encoding import encode_gif, encode_png, encode_wav, enlarged
from adaptive_diffusion.numerics.spectrogram import spectrogram

__all__ = [
    "SUFFIXES",
    "Clip",
    "Medium",
    "Picture",
    "Sound",
    "amplification",
    "amplified_difference",
    "media_of",
]

_MOST_AMPLIFIED = 256
_MOST_FRAMES = 16  # of a clip, on its still
_LINE = 0.8  # a light grey
_WIDTH = 128  # pixels of a clip in a file to look at: a smaller one is enlarged


class Medium(Protocol):
    """A picture, a clip or a sound.

    Attributes:
        kind: what to call it.
        suffix: of its file's name.
    """

    kind: ClassVar[str]
    suffix: ClassVar[str]

    @property
    def frames(self) -> np.ndarray:
        """What fidelity is measured on: `(F, H, W, C)` floats from 0 to 1."""

    @property
    def still(self) -> np.ndarray:
        """One picture `(H, W, C)` that shows it."""

    def encode(self, entries: Mapping[str, str]) -> bytes:
        """The content of its file, with text entries inside."""

    def beside(self, reference: Any) -> dict[str, bytes]:
        """Files that show it beside another of its kind, as far as two stills can't: by suffix."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture `(H, W, C)` of floats from 0 to 1."""

    kind: ClassVar[str] = "picture"
    suffix: ClassVar[str] = ".png"
    pixels: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """One."""
        return self.pixels[None]

    @property
    def still(self) -> np.ndarray:
        """Itself."""
        return self.pixels

    def encode(self, entries: Mapping[str, str]) -> bytes:
        """The content of its file."""
        return encode_png(self.pixels, entries)

    def beside(self, reference: Picture) -> dict[str, bytes]:
        """No files: the figure shows all there is."""
        return {}


@dataclass(frozen=True, eq=False)
class Clip:
    """A video without sound: frames `(F, H, W, C)` of floats from 0 to 1."""

    kind: ClassVar[str] = "clip"
    suffix: ClassVar[str] = ".gif"
    frames: np.ndarray

    @property
    def still(self) -> np.ndarray:
        """Frames from first to last, at most sixteen, in reading order."""
        count = min(len(self.frames), _MOST_FRAMES)
        shown = self.frames[np.linspace(0, len(self.frames) - 1, count).round().astype(int)]
        across = math.ceil(math.sqrt(count))
        return _sheet(shown, across)

    def encode(self, entries: Mapping[str, str]) -> bytes:
        """The content of its file."""
        return encode_gif(self.frames, entries)

    def beside(self, reference: Clip) -> dict[str, bytes]:
        """A file to look at: `film_beside`."""
        return {self.suffix: self.film_beside(reference)[0]}

    def film_beside(self, reference: Clip) -> tuple[bytes, int]:
        """The reference, the clip and their difference, side by side; how often it is amplified."""
        difference, scale = amplified_difference(self.frames, reference.frames)
        films = [enlarged(each, _WIDTH) for each in (reference.frames, self.frames, difference)]
        shows = f"full, accelerated, difference x{scale}"
        return encode_gif(np.concatenate(films, axis=2), {"shows": shows}), scale


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: a waveform `(channels, N)` of floats from -1 to 1, and its samples per second."""

    kind: ClassVar[str] = "sound"
    suffix: ClassVar[str] = ".wav"
    waveform: np.ndarray
    sampling_rate: int

    @property
    def frames(self) -> np.ndarray:
        """The spectrogram of each channel, `(channels, H, W, 1)`: high frequencies above."""
        seen = spectrogram(torch.from_numpy(self.waveform), self.sampling_rate)
        return seen.flip(1)[..., None].numpy()

    @property
    def still(self) -> np.ndarray:
        """The spectrograms of the channels below each other, stretched to about a square."""
        sheet = _sheet(self.frames, across=1)
        height, width, _ = sheet.shape
        tall = sheet.repeat(max(1, round(width / height)), axis=0)
        return tall.repeat(max(1, round(height / width)), axis=1)

    def encode(self, entries: Mapping[str, str]) -> bytes:
        """The content of its file."""
        return encode_wav(self.waveform, self.sampling_rate, entries)

    def beside(self, reference: Sound) -> dict[str, bytes]:
        """Files to listen to: the reference and the sound."""
        return {"-full.wav": reference.encode({}), "-accelerated.wav": self.encode({})}


SUFFIXES = tuple(kind.suffix for kind in (Picture, Clip, Sound))


def media_of(result: Any, pipe: Any) -> list[Medium]:
    """What a pipeline's call, with `output_type="np"`, has made: one entry for each sample.

    Raises:
        ValueError: if it is something else.
    """
    audios = getattr(result, "audios", None)
    if audios is not None:
        rate = sampling_rate(pipe)
        if rate is None:
            raise ValueError(
                f"{type(pipe).__name__} does not say its sampling rate: call it from Python, "
                "after enable(pipe)"
            )
        return [Sound(np.atleast_2d(np.asarray(each, dtype=np.float32)), rate) for each in audios]
    images = getattr(result, "images", getattr(result, "frames", None))
    pixels = None if images is None else np.asarray(images, dtype=np.float32)
    if pixels is None or pixels.ndim not in (4, 5):
        raise ValueError(
            f"{type(pipe).__name__} makes neither pictures nor clips nor sounds: call it from "
            "Python, after enable(pipe)"
        )
    return [Picture(each) if each.ndim == 3 else Clip(each) for each in pixels]


def amplification(differences: Iterable[np.ndarray]) -> int:
    """One factor for differences of pictures, so that they can be seen, and compared by eye.

    The largest power of two, 256 at most, that leaves nine tenths of each below white.
    """
    highest = max(float(np.nan_to_num(np.quantile(np.abs(each), 0.9))) for each in differences)
    scale = 1
    while scale < _MOST_AMPLIFIED and 2 * scale * highest <= 1:
        scale *= 2
    return scale


def amplified_difference(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, int]:
    """What is different, made visible, and by which factor."""
    difference = np.abs(image - reference)
    scale = amplification([difference])
    return difference * scale, scale


def _sheet(frames: np.ndarray, across: int) -> np.ndarray:
    """Frames `(F, H, W, C)` as one picture, `across` in a row, with a line between them.

    What is left over is white.
    """
    framed = np.pad(frames, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=_LINE)
    rows = -(-len(framed) // across)
    blank = np.ones((rows * across - len(framed), *framed.shape[1:]), framed.dtype)
    grid = np.concatenate([framed, blank]).reshape(rows, across, *framed.shape[1:])
    _, _, height, width, channels = grid.shape
    sheet = grid.swapaxes(1, 2).reshape(rows * height, across * width, channels)
    return sheet[:-1, :-1]
