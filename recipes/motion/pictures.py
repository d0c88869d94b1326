"""Clips as a still sheet for a model card, and as an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ENLARGED = 2
LABEL_HEIGHT = 14
MILLISECONDS = 100
"""How long the animation shows each frame."""


def draw_strips(clips: Tensor, labels: list[str], columns: int = 2) -> Image.Image:
    """Every second frame of each clip in a row below its label; so many clips beside each other.

    Args:
        clips: `(n, frames, 3, height, width)` in [-1, 1].
    """
    strips = [_side_by_side(clip[::2]) for clip in clips]
    width, height = strips[0].width + 8, strips[0].height + LABEL_HEIGHT
    sheet = Image.new("RGB", (columns * width, -(-len(strips) // columns) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for index, (strip, label) in enumerate(zip(strips, labels, strict=True)):
        x, y = index % columns * width, index // columns * height
        draw.text((x + 4, y), label, fill="black", font=font)
        sheet.paste(strip, (x, y + LABEL_HEIGHT))
    return sheet


def save_animation(clips: Tensor, path: Path, columns: int) -> None:
    """All clips at once, `columns` of them side by side, as a GIF that repeats."""
    rows = clips.split(columns)
    moments = [
        np.concatenate([np.asarray(_side_by_side(row[:, frame])) for row in rows])
        for frame in range(clips.shape[1])
    ]
    pictures = [Image.fromarray(moment) for moment in moments]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0)


def _side_by_side(frames: Tensor) -> Image.Image:
    """Frames `(n, 3, height, width)` in [-1, 1] as one enlarged picture."""
    pixels = (127.5 * (frames.clamp(-1, 1) + 1)).round().byte().permute(2, 0, 3, 1).flatten(1, 2)
    picture = Image.fromarray(pixels.numpy())
    size = (ENLARGED * picture.width, ENLARGED * picture.height)
    return picture.resize(size, Image.Resampling.NEAREST)
