"""A linear autoencoder: the latents of a picture are its patches in a basis of their own.

Diffusers imports no module that a model's folder names, so this one has to be imported before such
a folder is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PatchAutoencoder"]


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures in [-1, 1] to latents that are 8 times smaller, and back.

    The basis is that of the principal components of patches of 8 x 8 pixels.  Each component is
    divided by the root of its standard deviation, so that small ones, which make edges sharp,
    count for more than in pixels (`fit`).

    Args:
        latent_channels: how many components are kept.
        in_channels: colours of a pixel.
        block_out_channels: four entries, as pipelines take the factor of 8 from their number.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 128,
        in_channels: int = 3,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_size = 2 ** (len(block_out_channels) - 1)
        pixels = in_channels * self.patch_size**2
        self.encoder = nn.Conv2d(pixels, latent_channels, 1)
        self.decoder = nn.Conv2d(latent_channels, pixels, 1)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Take the basis from pictures, `(n, C, H, W)`; latents have mean 0 and variance 1."""
        patches = functional.pixel_unshuffle(pictures.double(), self.patch_size)
        patches = patches.permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(dim=0)
        variances, basis = torch.linalg.eigh(torch.cov(patches.T))  # in ascending order
        count = self.encoder.out_channels
        basis = basis.flip(1)[:, :count]
        spreads = variances.flip(0)[:count].clamp(min=1e-8).sqrt()
        scales = spreads.sqrt() * spreads.mean().sqrt()  # the latents' variance is 1 on average
        into, out_of = (basis / scales).T, basis * scales
        self.load_state_dict(
            {
                "encoder.weight": into[:, :, None, None],
                "encoder.bias": -into @ mean,
                "decoder.weight": out_of[:, :, None, None],
                "decoder.bias": mean,
            }
        )

    def encode(self, pictures: Tensor, return_dict: bool = True) -> Any:
        """Latents, `(B, latent_channels, H / 8, W / 8)`, of pictures, `(B, C, H, W)`."""
        latents = self.encoder(functional.pixel_unshuffle(pictures, self.patch_size))
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self, latents: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> Any:
        """Pictures, `(B, C, H, W)`, of latents; the basis has no use for a generator."""
        pictures = functional.pixel_shuffle(self.decoder(latents), self.patch_size)
        return DecoderOutput(sample=pictures) if return_dict else (pictures,)
