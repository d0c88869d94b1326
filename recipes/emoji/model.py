"""The networks of the emoji miniature, and its pipeline."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTokenizer

from recipes.emoji.data import IMAGE_SIZE
from recipes.shared.text_encoder import build_text_encoder
from recipes.shared.train_velocity import build_scheduler

TEXT_WIDTH = 160


def build_vae() -> AutoencoderKL:
    """Most channels where they are cheap, at the coarse levels; eight latent ones for detail."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        sample_size=IMAGE_SIZE,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=8,
        norm_num_groups=8,
    )


class TextToLatent(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, TEXT_WIDTH)
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),  # attention at 4x4 only
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,  # by a quirk of diffusers this is the number of heads
            norm_num_groups=16,
        )

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The prediction for noisy latents, given the tokens of their captions."""
        text = self.text_encoder(tokens).last_hidden_state
        return self.unet(noisy, timesteps, encoder_hidden_states=text).sample


def build_pipeline(
    vae: AutoencoderKL, model: TextToLatent, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as one pipeline, without safety checker: it can draw little but emoji."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
