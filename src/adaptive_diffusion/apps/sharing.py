"""Pipelines that share one model's weights: one for every request, and those that edit pictures."""

from __future__ import annotations

import copy
from typing import Any

from adaptive_diffusion.adapters.diffusers.components import schedulers

__all__ = [
    "INPAINTING",
    "REDRAWING",
    "editing_pipeline",
    "editing_size",
    "own_pipeline",
    "own_side",
]

REDRAWING = "image-to-image"
INPAINTING = "inpainting"


def own_pipeline(pipe: Any) -> Any:
    """A pipeline for one request: it has its own schedulers and settings, and shares the rest."""
    own = copy.copy(pipe)
    shared = {id(scheduler) for scheduler in schedulers(pipe)}
    for name, part in list(vars(own).items()):
        if id(part) in shared:
            setattr(own, name, copy.deepcopy(part))
    return own


def editing_pipeline(pipe: Any, edit: str) -> Any | None:
    """The pipeline of the same parts that edits pictures; None if this kind has none.

    Args:
        pipe: one that makes pictures.
        edit: `REDRAWING` or `INPAINTING`.
    """
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

    kinds = {REDRAWING: AutoPipelineForImage2Image, INPAINTING: AutoPipelineForInpainting}
    try:
        editor = kinds[edit].from_pipe(pipe)
    except ValueError:
        return None
    editor.set_progress_bar_config(disable=True)
    return editor


def own_side(pipe: Any) -> int | None:
    """Pixels of the longer side of what the model makes unasked; None if it does not say.

    A UNet's sample size is in latents, or in pixels where there is no VAE.
    """
    scale = getattr(pipe, "vae_scale_factor", 8 if getattr(pipe, "vae", None) else 1)
    for part in ("unet", "transformer"):
        config = getattr(getattr(pipe, part, None), "config", None) or {}
        size = config.get("sample_size") or getattr(pipe, "default_sample_size", None)
        sides = size if isinstance(size, list | tuple) else [size]
        if config and all(isinstance(side, int) for side in sides):
            return max(sides) * scale
    return None


def editing_size(pipe: Any, size: tuple[int, int], longest: int) -> tuple[int, int]:
    """The width and height at which a picture of this `size` is edited.

    That is its own, in whole blocks of the model's; reduced if it is larger than the model's own
    size, or than `longest` pixels.
    """
    scale = getattr(pipe, "vae_scale_factor", 8)
    own = own_side(pipe)
    if own is not None:
        longest = min(longest, own)
    block = 2 * scale
    largest = max(size)
    width, height = (
        max(block, side * min(longest, largest) // largest // block * block) for side in size
    )
    return width, height
