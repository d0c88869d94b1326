"""FasterCache with guidance in one batch, as CogVideoX has it: the unconditional half is saved."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline
from diffusers import CogVideoXTransformer3DModel as Transformer
from tiny_pipelines import T5_LENGTH, WIDTH, run, seeded, t5_encoder, t5_tokenizer

from adaptive_diffusion.apps.bench.rivals.faster_cache import FasterCache

INPUTS = {
    "prompt": ["red apple"],
    "guidance_scale": 5.0,
    "height": 16,
    "width": 16,
    "num_frames": 8,
    "max_sequence_length": T5_LENGTH,
}


def _cogvideox() -> CogVideoXPipeline:
    return CogVideoXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8,) * 4,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        transformer=Transformer(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=4,
            text_embed_dim=WIDTH,
            num_layers=2,
            sample_width=2,
            sample_height=2,
            sample_frames=9,
            patch_size=2,
            max_text_seq_length=T5_LENGTH,
        ),
        scheduler=CogVideoXDDIMScheduler(),
    )


def test_saves_the_unconditional_half() -> None:
    pipe = seeded(_cogvideox)()
    full = run(pipe, INPUTS, steps=10)
    with FasterCache(attention=2, guidance=5).applied(pipe, 10) as work:
        assert run(pipe, INPUTS, steps=10).isfinite().all()
    assert min(work.per_step) < 0.5  # half of the batch, and some of its attention
    assert torch.equal(run(pipe, INPUTS, steps=10), full)
