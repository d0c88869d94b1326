"""The parts of a latent diffusion pipeline for a model that works on pixels.

Stable Diffusion 3's pipelines expect an autoencoder, and a transformer that answers with a
velocity.  Here the autoencoder is the identity, and the transformer predicts the clean picture,
which it turns into a velocity itself (Li and He, "Back to Basics: Let Denoising Generative Models
Denoise", 2025).  Diffusers imports no module that a model's folder names, so this one has to be
imported before such a folder is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, SD3Transformer2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

__all__ = ["LEAST_NOISE", "PixelSpace", "PixelTransformer"]

LEAST_NOISE = 0.05
"""The share of noise below which the velocity is not divided by less."""


class PixelTransformer(SD3Transformer2DModel):
    """Stable Diffusion 3's transformer, made to predict the clean picture.

    Flow matching joins a clean picture x to noise e by z = (1 - s) x + s e.  The velocity e - x
    that schedulers want is (z - x) / s.
    """

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        pooled_projections: Tensor | None = None,
        timestep: Tensor | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """The velocity at noisy pictures; the arguments are those of `SD3Transformer2DModel`.

        Args:
            hidden_states: `(B, C, H, W)`.
            timestep: `(B,)`, 1000 times the share of noise.
        """
        [clean] = super().forward(
            hidden_states,
            encoder_hidden_states,
            pooled_projections,
            timestep,
            return_dict=False,
            **options,
        )
        assert timestep is not None
        share = (timestep / 1000).clamp(min=LEAST_NOISE).to(clean.dtype)
        velocity = (hidden_states - clean) / share[:, None, None, None]
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


class PixelSpace(ModelMixin, ConfigMixin):
    """An autoencoder whose latents are the pixels.

    Args:
        latent_channels: colours of a pixel.
        block_out_channels: one entry, as pipelines take the factor by which latents are smaller
            from its length.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 3,
        block_out_channels: tuple[int, ...] = (1,),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()))  # by it the module has a type and a place

    def encode(self, pixels: Tensor, return_dict: bool = True) -> Any:
        """The same, `(B, C, H, W)`."""
        return AutoencoderTinyOutput(latents=pixels) if return_dict else (pixels,)

    def decode(
        self, latents: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> Any:
        """The same, `(B, C, H, W)`."""
        return DecoderOutput(sample=latents) if return_dict else (latents,)
