"""Video: all others."""

from __future__ import annotations

from diffusers import DiffusionPipeline, I2VGenXLPipeline, I2VGenXLUNet
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.parts import (
    SIZE,
    UNET_SHAPE,
    WIDTH,
    clip_text_encoder,
    clip_tokenizer,
    ddim,
    tiny_vae,
)


def i2vgen_xl() -> DiffusionPipeline:
    """It also draws from torch's own generator: only repeatable where that is seeded, too."""
    levels = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    sight = CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
    )
    return I2VGenXLPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        image_encoder=CLIPVisionModelWithProjection(sight),
        feature_extractor=CLIPImageProcessor(crop_size=SIZE, size=SIZE),
        unet=I2VGenXLUNet(sample_size=SIZE // 2, **UNET_SHAPE | levels),
        scheduler=ddim(),
    )


PIPELINES: list[TinyPipeline] = []
