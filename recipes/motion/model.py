"""The denoiser and text encoder of the motion miniature, in the format of ModelScope's model."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, TextToVideoSDPipeline, UNet3DConditionModel
from torch import nn
from transformers import CLIPTokenizer

from recipes.shared.text_encoder import build_text_encoder
from recipes.shared.train_velocity import build_scheduler

LATENT_SIZE = 8
TEXT_WIDTH = 96


class TextToClip(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, TEXT_WIDTH)
        self.unet = UNet3DConditionModel(
            sample_size=LATENT_SIZE,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=(48, 96),
            layers_per_block=1,
            down_block_types=("DownBlock3D", "DownBlock3D"),  # attention in the middle only
            up_block_types=("UpBlock3D", "UpBlock3D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=12,
            norm_num_groups=12,
        )
        self.unet.eval()  # no dropout: there are many clips, and little time to learn them
        self.unet.set_default_attn_processor()  # for 16 frames, faster than fused attention

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The prediction for noisy latents `(B, C, F, H, W)`, given the tokens of the captions."""
        text = self.text_encoder(tokens).last_hidden_state
        return self.unet(noisy, timesteps, encoder_hidden_states=text).sample


def build_pipeline(
    vae: AutoencoderKL, model: TextToClip, tokenizer: CLIPTokenizer
) -> TextToVideoSDPipeline:
    """The parts as one pipeline."""
    return TextToVideoSDPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
    )
