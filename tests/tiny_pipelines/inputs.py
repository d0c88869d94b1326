"""What the tiny pipelines are asked for: prompts, pictures, masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import nn

from tiny_pipelines.parts import SIZE

_COLOURS = ("red", "green", "blue", "white", "black")
_THINGS = ("apple", "boat", "castle", "dog", "engine", "forest", "guitar")


def prompts(batch: int) -> list[str]:
    """Prompts that all differ, for up to 35 samples."""
    return [f"{_COLOURS[b % 5]} {_THINGS[b % 7]}" for b in range(batch)]


def even_prompts(batch: int) -> list[str]:
    """Prompts of one length, for pipelines that attend to what shorter ones are padded with."""
    return [prompt.ljust(13, "!") for prompt in prompts(batch)]


def pictures(batch: int, channels: int = 3, size: int = SIZE) -> torch.Tensor:
    """One picture per sample with values in [0, 1]: enlarged noise, smooth as pictures are."""
    blocks = [
        torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(1000 + b))
        for b in range(batch)
    ]
    return nn.functional.interpolate(torch.cat(blocks), size=(size, size), mode="bilinear")


def masks(batch: int) -> torch.Tensor:
    """One mask per sample, 1 where the picture is to be repainted: the right half and then some."""
    columns = torch.arange(SIZE).expand(batch, 1, SIZE, SIZE)
    starts = SIZE // 2 - 2 * (torch.arange(batch) % 4)
    return (columns >= starts.view(-1, 1, 1, 1)).float()


def image_inputs(batch: int, guidance_scale: float = 5.0) -> dict[str, Any]:
    """Arguments of a text-to-image call."""
    return {
        "prompt": prompts(batch),
        "guidance_scale": guidance_scale,
        "height": SIZE,
        "width": SIZE,
    }


def photographs(batch: int, size: int = SIZE) -> list[Image.Image]:
    """The `pictures`, for pipelines that take no tensors."""
    rows = (255 * pictures(batch, size=size)).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(row.numpy()) for row in rows]


def films(batch: int, frames: int, size: int = SIZE) -> list[list[Image.Image]]:
    """One film per sample: PIL images that all differ."""
    images = photographs(batch * frames, size)
    return [images[b * frames : (b + 1) * frames] for b in range(batch)]


def with_control(inputs: Callable[[int], dict[str, Any]], batch: int) -> dict[str, Any]:
    """Those inputs, and a picture per sample for a ControlNet."""
    return inputs(batch) | {"control_image": 1 - pictures(batch)}
