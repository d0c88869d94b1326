"""Inpainting with a model that knows nothing of masks.

After every step of an image-to-image run, the latents outside the mask are put back to those of
the picture, with as much noise as the next step expects (blended diffusion: Avrahami et al., CVPR
2022, arXiv 2111.14818, in latent space).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

__all__ = ["KeepOutside", "takes_masks"]


def takes_masks(pipe: Any) -> bool:
    """Whether the inpainting pipeline of this model's kind can run it: UNets of 4 or 9 channels."""
    unet = getattr(pipe, "unet", None)
    return unet is None or unet.config.in_channels in (4, 9)


class KeepOutside:
    """A `callback_on_step_end` that keeps a picture where the mask is black.

    Args:
        picture: what is kept.
        mask: of the same size; white where the picture is to be painted anew.
        seed: of the noise that is added to what is kept.
    """

    def __init__(self, picture: Image.Image, mask: Image.Image, seed: int) -> None:
        self._picture = picture
        self._mask = mask
        self._seed = seed
        self._prepared: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(
        self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        latents = tensors["latents"]
        if self._prepared is None:
            self._prepared = self._prepare(pipe, latents)
        clean, noise, anew = self._prepared
        timesteps = pipe.scheduler.timesteps
        later = timesteps[timesteps < timestep]
        kept = pipe.scheduler.add_noise(clean, noise, later[:1]) if len(later) else clean
        return {**tensors, "latents": torch.where(anew, latents, kept.to(latents.dtype))}

    def _prepare(self, pipe: Any, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The picture's latents, their noise, and where they are to change."""
        vae = pipe.vae
        pixels = pipe.image_processor.preprocess(self._picture).to(vae.device, vae.dtype)
        encoded = vae.encode(pixels).latent_dist.mode()
        clean = (encoded - (vae.config.get("shift_factor") or 0)) * vae.config.scaling_factor
        generator = torch.Generator().manual_seed(self._seed)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        mask = torch.tensor(np.asarray(self._mask.convert("L"), dtype=np.float32))[None, None]
        anew = nn.functional.adaptive_max_pool2d(mask, latents.shape[-2:]) > 0
        return clean, noise, anew.to(latents.device)
