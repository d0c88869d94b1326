"""Pictures of what is not finished yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Previews", "preview"]


def preview(pipe: Any, latents: Tensor | None) -> np.ndarray | None:
    """The latents decoded, `(B, H, W, C)` floats from 0 to 1.

    None where that takes more than the pipeline's image VAE: packed latents, videos.
    """
    vae = getattr(pipe, "vae", None)
    channels = getattr(getattr(vae, "config", None), "latent_channels", None)
    if latents is None or latents.ndim != 4 or latents.shape[1] != channels:
        return None
    assert vae is not None
    scaled = latents / vae.config.scaling_factor + (vae.config.get("shift_factor") or 0)
    decoded = vae.decode(scaled.to(vae.dtype), return_dict=False)[0]
    return np.asarray((decoded.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu())


class Previews:
    """A pipeline's `callback_on_step_end` that shows some pictures on the way, evenly spread.

    The finished picture is none of them; a loop of few steps has fewer.

    Args:
        count: how many.
        show: given each one, `(B, H, W, C)` floats from 0 to 1.
    """

    def __init__(self, count: int, show: Callable[[np.ndarray], None]) -> None:
        self._parts = count + 1
        self._show = show

    def __call__(
        self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        total = getattr(pipe, "num_timesteps", None) or len(pipe.scheduler.timesteps)
        made = step + 1
        begins_a_part = made * self._parts // total > step * self._parts // total
        if begins_a_part and made < total:
            images = preview(pipe, tensors.get("latents"))
            if images is not None:
                self._show(images)
        return tensors
