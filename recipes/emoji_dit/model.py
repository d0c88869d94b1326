"""A velocity field over latents, drawn by a transformer in CogView4's format.

Flow matching joins a clean latent x to noise e by the straight line

    z(s) = (1 - s) x + s e,        dz/ds = e - x,

and trains v(z, 1000 s, text) to be that slope.  A picture is drawn by following v from s = 1 down
to 0, which is what `FlowMatchEulerDiscreteScheduler` does.
"""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)
from torch import nn
from transformers import CLIPTokenizer, GlmConfig, GlmModel

LATENT_SIZE = 8
PATCH_SIZE = 2
PICTURE_SIZE = 32.0
NOISE_LEVELS = 1000
TEXT_HEADS = 5
HEADS = 6
HEAD_WIDTH = 32

ADAMW_NAMES = ("embed_tokens", "patch_embed.proj", "norm1.linear", "transformer.proj_out")
"""What comes in and goes out, and the modulation by time: all too lopsided for Muon."""


class TextToVelocity(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do.

    The pipeline takes the text from the last layer but one, so the last is left as it came.
    """

    def __init__(self, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer)
        self.text_encoder.layers[-1].requires_grad_(False)
        self.text_encoder.norm.requires_grad_(False)
        self.transformer = build_transformer(latent_channels)

    def forward(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The velocity at noisy latents, given the tokens of their captions."""
        text = self.text_encoder(tokens, output_hidden_states=True).hidden_states[-2]
        size = torch.full((len(noisy), 2), PICTURE_SIZE)
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=text,
            timestep=NOISE_LEVELS * sigmas,
            original_size=size,
            target_size=size,
            crop_coords=torch.zeros_like(size),
        ).sample


def build_text_encoder(tokenizer: CLIPTokenizer) -> GlmModel:
    """Two layers that count, and the one above them."""
    width = TEXT_HEADS * HEAD_WIDTH
    return GlmModel(
        GlmConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=3,
            num_attention_heads=TEXT_HEADS,
            num_key_value_heads=TEXT_HEADS,
            head_dim=HEAD_WIDTH,
            max_position_embeddings=1024,
            initializer_range=width**-0.5,
            rms_norm_eps=1e-5,
            use_cache=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_transformer(latent_channels: int) -> CogView4Transformer2DModel:
    """Six blocks over 16 patches and 16 text tokens; each starts as the identity (adaLN-zero)."""
    transformer = CogView4Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=PATCH_SIZE,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=6,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        text_embed_dim=TEXT_HEADS * HEAD_WIDTH,
        time_embed_dim=128,
        condition_dim=16,
        pos_embed_max_size=LATENT_SIZE,
        rope_axes_dim=(LATENT_SIZE, LATENT_SIZE),
    )
    zeroed = [block.norm1.linear for block in transformer.transformer_blocks]
    for layer in (*zeroed, transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """CogView4's scheduler with 16 patches as the size at which noise levels are not shifted.

    So the timestep is 1000 s throughout, as in training.
    """
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=NOISE_LEVELS,
        use_dynamic_shifting=True,
        time_shift_type="linear",
        base_image_seq_len=(LATENT_SIZE // PATCH_SIZE) ** 2,
        base_shift=0.25,
        max_shift=0.75,
    )


def build_pipeline(
    vae: AutoencoderKL, model: TextToVelocity, tokenizer: CLIPTokenizer
) -> CogView4Pipeline:
    """The parts as one pipeline."""
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=model.text_encoder,
        vae=vae,
        transformer=model.transformer,
        scheduler=build_scheduler(),
    )
