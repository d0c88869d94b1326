"""The clean sample that the network predicts becomes a velocity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from adaptive_diffusion.miniatures.clean_sample import LEAST_NOISE, CleanSampleTransformer

SIZE = {
    "sample_size": 8,
    "patch_size": 4,
    "in_channels": 3,
    "out_channels": 3,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "joint_attention_dim": 8,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 8,
    "pos_embed_max_size": 2,
}


def call(transformer: Any, noisy: Tensor, timestep: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(len(noisy), 5, 8, generator=generator)
    return transformer(
        hidden_states=noisy,
        encoder_hidden_states=text,
        pooled_projections=text.mean(dim=1),
        timestep=timestep,
        return_dict=False,
    )[0]


@pytest.fixture
def pair() -> tuple[CleanSampleTransformer, SD3Transformer2DModel]:
    """The transformer, and Stable Diffusion 3's with the same weights."""
    torch.manual_seed(0)
    ours, plain = CleanSampleTransformer(**SIZE).eval(), SD3Transformer2DModel(**SIZE).eval()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@torch.no_grad()
def test_following_the_velocity_to_the_end_gives_the_clean_sample(pair: Any) -> None:
    """Down to the least share of noise: x = z - s v."""
    ours, plain = pair
    noisy = torch.randn(3, 3, 8, 8)
    shares = torch.tensor([1.0, 0.4, LEAST_NOISE])
    velocity = call(ours, noisy, 1000 * shares)
    clean = call(plain, noisy, 1000 * shares)
    torch.testing.assert_close(noisy - shares[:, None, None, None] * velocity, clean)


@torch.no_grad()
def test_below_the_least_share_of_noise_the_velocity_stays_bounded(pair: Any) -> None:
    ours, plain = pair
    noisy, timestep = torch.randn(1, 3, 8, 8), torch.tensor([0.0])
    expected = (noisy - call(plain, noisy, timestep)) / LEAST_NOISE
    torch.testing.assert_close(call(ours, noisy, timestep), expected)


@torch.no_grad()
def test_it_answers_as_stable_diffusion_3s_does(pair: Any) -> None:
    """By default in a record with the field `sample`; in the precision it is given."""
    ours, _ = pair
    ours = ours.to(torch.bfloat16)
    noisy = torch.randn(1, 3, 8, 8, dtype=torch.bfloat16)
    text = torch.randn(1, 5, 8, dtype=torch.bfloat16)
    record = ours(noisy, text, text.mean(dim=1), torch.tensor([500.0]))
    assert record.sample.shape == noisy.shape
    assert record.sample.dtype == torch.bfloat16
