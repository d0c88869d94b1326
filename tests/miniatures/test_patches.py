"""The linear autoencoder keeps what it is told to keep, and scales it as it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from adaptive_diffusion.miniatures.patches import PatchAutoencoder


@pytest.fixture
def pictures() -> Tensor:
    """Far smoother than noise, as pictures are: `(40, 3, 32, 32)`."""
    noise = torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, scale_factor=8, mode="bicubic").tanh()


def fitted(pictures: Tensor, channels: int) -> PatchAutoencoder:
    autoencoder = PatchAutoencoder(channels)
    autoencoder.fit(pictures)
    return autoencoder


@torch.no_grad()
def test_with_all_components_nothing_is_lost(pictures: Tensor) -> None:
    autoencoder = fitted(pictures, 192)
    latents = autoencoder.encode(pictures).latents
    assert latents.shape == (40, 192, 4, 4)
    torch.testing.assert_close(autoencoder.decode(latents).sample, pictures, atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_few_components_lose_is_the_variance_of_the_others(pictures: Tensor) -> None:
    autoencoder = fitted(pictures, 12)
    kept = autoencoder.decode(autoencoder.encode(pictures).latents).sample
    patches = torch.nn.functional.pixel_unshuffle(pictures, 8).permute(0, 2, 3, 1).flatten(0, 2)
    variances = torch.linalg.eigvalsh(torch.cov(patches.T)).flip(0)
    lost = (kept - pictures).square().sum() / (len(patches) - 1)
    torch.testing.assert_close(lost, variances[12:].sum(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_latents_are_centred_of_variance_one_and_half_whitened(pictures: Tensor) -> None:
    """A component's variance is in proportion to its spread in pixels, not to that squared."""
    autoencoder = fitted(pictures, 12)
    latents = autoencoder.encode(pictures).latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(dim=1), torch.zeros(12), atol=1e-4, rtol=0)
    variances = latents.var(dim=1)
    torch.testing.assert_close(variances.mean(), torch.tensor(1.0), rtol=1e-3, atol=0)
    scale = autoencoder.decoder.weight.flatten(1).norm(dim=0)  # pixels per latent
    torch.testing.assert_close(
        variances, (scale / scale.square().mean().sqrt()) ** 2, rtol=0.01, atol=0.01
    )


def test_it_is_kept_in_a_folder(pictures: Tensor, tmp_path: Path) -> None:
    autoencoder = fitted(pictures, 12)
    autoencoder.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(again.encode(pictures).latents, autoencoder.encode(pictures).latents)
    assert 2 ** (len(again.config.block_out_channels) - 1) == 8
