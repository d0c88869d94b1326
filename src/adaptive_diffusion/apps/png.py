"""PNG files that say how they were made."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.policies import Policy

__all__ = ["encode_png", "file_name", "how_made", "mask_text", "save_png", "to_bytes"]

_LONGEST_NAME = 40


def save_png(path: Path, image: np.ndarray, entries: Mapping[str, str]) -> None:
    """Writes an image `(H, W, C)` of floats from 0 to 1 with text entries beside it."""
    path.write_bytes(encode_png(image, entries))


def encode_png(image: np.ndarray, entries: Mapping[str, str]) -> bytes:
    """The content of such a file."""
    info = PngInfo()
    for key, value in entries.items():
        info.add_text(key, value)
    content = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(content, format="PNG", pnginfo=info)
    return content.getvalue()


def how_made(
    sample: Sample, mask: Sequence[bool], policy: Policy | None, sampler: Sampler, model: str
) -> dict[str, str]:
    """The entries of a sample's file."""
    own = {name: str(value) for name, value in sample.arguments.items()}
    return {
        "prompt": sample.prompt or "",
        **own,
        "seed": str(sample.seed),
        "policy": "none" if policy is None else str(policy),
        "mask": mask_text(mask),
        "model": model,
        "scheduler": type(sampler.pipe.scheduler).__name__,
        "steps": str(sampler.settings.steps),
    }


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Eight bits per channel, without the channel axis for grey."""
    pixels = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def mask_text(mask: Sequence[bool]) -> str:
    """A mask as a string such as `11101001`: 1 where the denoiser was called."""
    return "".join("1" if computed else "0" for computed in mask)


def file_name(sample: Sample) -> str:
    """A name from prompt and seed; the seed keeps the samples of one run apart."""
    words = re.sub(r"\W+", "-", sample.prompt or "").strip("-").lower()[:_LONGEST_NAME]
    return f"{words.rstrip('-') or 'sample'}-{sample.seed}.png"
