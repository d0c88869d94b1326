"""What the motion miniature is trained on: the table of its clips' latents."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

ENCODED_AT_ONCE = 64


@torch.no_grad()
def encode_clips(vae: AutoencoderKL, clips: Tensor) -> Tensor:
    """Latents frame by frame in half precision, `(n, channels, frames, height, width)`."""
    table = []
    for part in clips.split(ENCODED_AT_ONCE):
        latents = vae.encode(part.flatten(0, 1)).latent_dist.mode()
        table.append(latents.unflatten(0, part.shape[:2]).transpose(1, 2).half())
    return torch.cat(table)
