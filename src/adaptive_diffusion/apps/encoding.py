"""Content of files, each with text about itself inside: PNG, JPEG, WebP, GIF and WAV."""

from __future__ import annotations

import io
import json
import struct
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

__all__ = [
    "OWN_TEXT",
    "encode_gif",
    "encode_image",
    "encode_png",
    "encode_wav",
    "enlarged",
    "to_bytes",
]

OWN_TEXT = "adaptive_diffusion"
"""The text of a PNG that has its entries, as JSON."""

_PARAMETERS = "parameters"
_FRAME_MILLISECONDS = 125
_LOUDEST = 32767  # of sixteen bits
_MOST_EXIF = 65_000  # bytes that a JPEG has room for, with some to spare


def encode_png(image: np.ndarray, entries: Mapping[str, str]) -> bytes:
    """A picture `(H, W, C)` of floats from 0 to 1; the entries are its text."""
    return encode_image(Image.fromarray(to_bytes(image)), "png", entries)


def encode_image(
    image: Image.Image, kind: str, entries: Mapping[str, str], **settings: Any
) -> bytes:
    """A picture as "png", "jpeg" or "webp", with the entries inside.

    Args:
        image: the picture.
        kind: of file.
        entries: how it was made.
        settings: for `Image.save`.
    """
    content = io.BytesIO()
    inside = {"pnginfo": _png_text(entries)} if kind == "png" else {"exif": _exif(entries)}
    image.save(content, format=kind.upper(), **inside, **settings)
    return content.getvalue()


def _png_text(entries: Mapping[str, str]) -> PngInfo:
    """The entries as a PNG's texts.

    `parameters` is a text of its own, where other tools look for it. The rest is one of ours, as
    JSON: ComfyUI takes a text `prompt` for a graph of its own.
    """
    info = PngInfo()
    if _PARAMETERS in entries:
        info.add_itxt(_PARAMETERS, entries[_PARAMETERS])
    if others := _others(entries):
        info.add_itxt(OWN_TEXT, json.dumps(others, ensure_ascii=False))
    return info


def _exif(entries: Mapping[str, str]) -> bytes:
    """The entries as EXIF: `parameters` is the comment, the rest the description, as JSON.

    Other tools look for the comment, in UTF-16. What a JPEG has no room for is left out: the
    description first.
    """
    texts: dict[int, Any] = {}
    if _PARAMETERS in entries:
        comment = b"UNICODE\0" + entries[_PARAMETERS].encode("utf-16-be")
        texts[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment.value: comment}
    if others := _others(entries):
        texts[ExifTags.Base.ImageDescription] = json.dumps(others)
    while True:
        exif = Image.Exif()
        exif.update(texts)
        content = exif.tobytes()
        if len(content) <= _MOST_EXIF:
            return content
        texts.popitem()


def _others(entries: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in entries.items() if key != _PARAMETERS}


def encode_gif(frames: np.ndarray, entries: Mapping[str, str]) -> bytes:
    """Frames `(F, H, W, C)` of floats from 0 to 1, over and over, eight a second.

    The entries are its comment, as JSON.
    """
    first, *others = (Image.fromarray(to_bytes(frame)) for frame in frames)
    content = io.BytesIO()
    first.save(
        content,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=_FRAME_MILLISECONDS,
        loop=0,
        comment=_as_json(entries),
    )
    return content.getvalue()


def encode_wav(waveform: np.ndarray, sampling_rate: int, entries: Mapping[str, str]) -> bytes:
    """A waveform `(channels, N)` of floats from -1 to 1, in sixteen bits; what is louder is cut.

    The entries are its comment (ICMT), as JSON.
    """
    samples = (np.nan_to_num(waveform).clip(-1, 1) * _LOUDEST).round().astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(samples.itemsize)
        file.setframerate(sampling_rate)
        file.writeframes(samples.T.tobytes())
    comment = _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", _as_json(entries) + b"\0"))
    body = content.getvalue()[8:] + comment
    return _chunk(b"RIFF", body)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Eight bits per channel, without the channel axis for grey."""
    pixels = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def enlarged(images: np.ndarray, smallest: int) -> np.ndarray:
    """Images `(..., H, W, C)` of so many pixels across or more: pixels are repeated, unsmoothed."""
    factor = max(1, -(-smallest // images.shape[-2]))
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def _as_json(entries: Mapping[str, str]) -> bytes:
    return json.dumps(dict(entries), ensure_ascii=False).encode()


def _chunk(name: bytes, body: bytes) -> bytes:
    """A part of a RIFF file, padded to whole words."""
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
