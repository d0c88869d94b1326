"""A velocity field over the latents of a clip, drawn by a transformer in LTX-Video's format.

As in `recipes.emoji_dit.model`, a clean latent x and noise e are joined by the straight line
z(s) = (1 - s) x + s e, and the network is trained to give its slope e - x at the timestep 1000 s.
Here every token has a timestep of its own: where a clip is to begin with a given picture, the
tokens of its first latent frame stay clean and have the timestep 0.
"""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from torch import Tensor, nn
from transformers import T5TokenizerFast

from recipes.shared.text_encoder import build_t5_encoder

FRAMES = 17
"""In a clip: the first, and eight times two more."""
LATENT_FRAMES = 9
LATENT_SIZE = 4
NOISE_LEVELS = 1000
FRAME_RATE = 25
"""What the pipelines take unless they are told otherwise; the positions in time depend on it."""
COMPRESSION = {"time": 2, "space": 8}
TEXT_WIDTH = 128
TEXT_TOKENS = 16
"""Of the 128 that a prompt is padded to, those that a caption may fill."""
HEADS = 5
HEAD_WIDTH = 32
LAYERS = 5

ADAMW_NAMES = (
    "shared",
    "relative_attention_bias",
    "proj_in",
    "transformer.proj_out",
    "time_embed",
    "scale_shift_table",
)
"""What comes in and goes out, and the modulation by time: all too lopsided for Muon."""


class TextToVelocity(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do."""

    def __init__(self, tokenizer: T5TokenizerFast, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = build_t5_encoder(tokenizer, TEXT_WIDTH)
        self.transformer = build_transformer(latent_channels)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The velocity at noisy latents, given the tokens of their captions.

        Args:
            noisy: `(B, C, frames, height, width)`.
            timesteps: one for each latent frame, `(B, frames)`.
            tokens: padded to their full length, as the text encoder looks at the padding too.
        """
        frames, height, width = noisy.shape[2:]
        text = self.text_encoder(tokens).last_hidden_state
        velocity = self.transformer(
            hidden_states=noisy.flatten(2).transpose(1, 2),
            encoder_hidden_states=text[:, :TEXT_TOKENS],
            timestep=timesteps.repeat_interleave(height * width, dim=1),
            encoder_attention_mask=tokens[:, :TEXT_TOKENS] != 0,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(
                COMPRESSION["time"] / FRAME_RATE,
                COMPRESSION["space"],
                COMPRESSION["space"],
            ),
            return_dict=False,
        )[0]
        return velocity.transpose(1, 2).view_as(noisy)


def build_transformer(latent_channels: int) -> LTXVideoTransformer3DModel:
    """A block has 144 tokens and those of the text to look at; each starts as the identity."""
    width = HEADS * HEAD_WIDTH
    transformer = LTXVideoTransformer3DModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=width,
        caption_channels=TEXT_WIDTH,
        num_layers=LAYERS,
    )
    zeroed = [transformer.time_embed.linear, transformer.proj_out]
    for block in transformer.transformer_blocks:
        zeroed += [block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]]
        gates = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0])  # shift, scale, gate of either part
        block.scale_shift_table.data.copy_(gates[:, None].expand(-1, width))
    for layer in zeroed:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


def build_pipeline(
    vae: AutoencoderKLLTXVideo, model: TextToVelocity, tokenizer: T5TokenizerFast
) -> LTXPipeline:
    """The parts as one pipeline; the scheduler does not shift its noise levels, as in training."""
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=NOISE_LEVELS),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        transformer=model.transformer,
    )
