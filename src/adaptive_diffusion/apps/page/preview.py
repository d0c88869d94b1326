"""A picture of what is not finished yet."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["preview"]


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
