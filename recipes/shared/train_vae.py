"""Train an `AutoencoderKL` of factor 4: what turns pictures into latents and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from adaptive_diffusion import psnr
from recipes.shared.training import Settings, train


def gradient_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 distance of the horizontal and vertical differences: it keeps outlines sharp."""
    error = restored - images
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return across + down


def reconstruction_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 for crisp flat colours, squared error for outliers, differences for outlines."""
    return (
        functional.l1_loss(restored, images)
        + functional.mse_loss(restored, images)
        + 0.5 * gradient_loss(restored, images)
    )


def train_vae(
    vae: AutoencoderKL,
    images: torch.Tensor,
    checkpoint: Path,
    settings: Settings,
    kl_weight: float,
) -> dict:
    """Train `vae` until the budget is spent, normalise its latents, and say how far it has come.

    It is frozen then. A finished checkpoint is only loaded.
    """
    latent_shape = (
        settings.batch_size,
        vae.config.latent_channels,
        *(side // 4 for side in images.shape[2:]),
    )

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        while True:
            yield (
                images[torch.randint(len(images), (settings.batch_size,))],
                torch.randn(latent_shape),
            )

    def loss(batch: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = vae.encode(batch).latent_dist
        restored = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = posterior.kl().mean() / noise[0].numel()
        return reconstruction_loss(restored, batch) + kl_weight * divergence

    state = train(vae, "autoencoder", loss, batches(), checkpoint, settings)
    vae.requires_grad_(False)
    normalise_latents(vae, encode_all(vae, images))
    return state


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """The unscaled latent of every picture: the small table the denoiser is trained on."""
    return torch.cat([vae.encode(part).latent_dist.mode() for part in images.split(32)])


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """Mean over the pictures of the PSNR in decibels."""
    values = []
    for part in images.split(32):
        restored = vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        values.append(psnr(restored, part, data_range=2.0))
    return torch.cat(values).mean().item()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Give every latent channel mean 0 and spread 1, by rescaling the convolutions next to it.

    The pipeline knows a single scaling factor and no shift.  The 1x1 convolutions before and
    after the latent can hold one of each per channel, so `scaling_factor` may be 1.
    """
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:channels] /= spread[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / spread
    before.bias[channels:] -= 2 * spread.log()  # the second half holds logarithms of variances
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= spread[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
