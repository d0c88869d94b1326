"""The networks of the sounds miniature, and its pipeline, in AudioLDM's format.

The caption goes in as one vector, beside the timestep.  The autoencoder sees a log-mel spectrogram
as a grey picture: time runs down, pitch to the right.
"""

from __future__ import annotations

import torch
from diffusers import AudioLDMPipeline, AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.nn import functional
from transformers import ClapTextConfig, ClapTextModelWithProjection, RobertaTokenizer

from adaptive_diffusion.miniatures.griffin_lim import GriffinLim
from recipes.shared.train_velocity import build_scheduler

BANDS = 64
FRAMES = 64
TEXT_WIDTH = 96
CHANNELS = (48, 96)


def build_vae() -> AutoencoderKL:
    """Factor 4, as AudioLDM's; few channels where the picture is still large."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        sample_size=FRAMES,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=8,
        norm_num_groups=8,
    )


class TextToLatent(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do."""

    def __init__(self, tokenizer: RobertaTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.padding = tokenizer.pad_token_id
        self.text_encoder = build_text_encoder(tokenizer)
        self.unet = build_unet(latent_channels)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The prediction for noisy latents, given the tokens of their captions."""
        text = self.text_encoder(tokens, attention_mask=(tokens != self.padding).long())
        caption = functional.normalize(text.text_embeds, dim=-1)  # as the pipeline does
        return self.unet(noisy, timesteps, encoder_hidden_states=None, class_labels=caption).sample


def build_text_encoder(tokenizer: RobertaTokenizer) -> ClapTextModelWithProjection:
    """Two layers of four heads, and the vector that CLAP makes of the first token."""
    return ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,  # the pipeline pads the empty caption to TEXT_WIDTH
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """Two levels, with attention (of the sound to itself) at the coarse one."""
    return UNet2DConditionModel(
        sample_size=FRAMES // 4,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=CHANNELS,  # no text comes here: both attentions are to the sound
        attention_head_dim=4,  # by a quirk of diffusers this is the number of heads
        norm_num_groups=16,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=TEXT_WIDTH,
        class_embeddings_concat=True,
        resnet_time_scale_shift="scale_shift",
    )


def build_pipeline(
    vae: AutoencoderKL, model: TextToLatent, tokenizer: RobertaTokenizer
) -> AudioLDMPipeline:
    """The parts as one pipeline; the vocoder has nothing to learn."""
    return AudioLDMPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        vocoder=GriffinLim(model_in_dim=BANDS),
    )
