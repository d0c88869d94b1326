"""Stage 1: an `AutoencoderKL` that turns 32x32 pictures into 8x8 latents and back."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import Progress
from torch.nn import functional

from recipes.emoji.data import IMAGE_SIZE
from recipes.shared.optimizer import build_optimizers, set_learning_rate
from recipes.shared.training import (
    Budget,
    LossCurve,
    ParallelGradients,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
)

CHECKPOINT_EVERY = 200


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
    *,
    minutes: float,
    batch_size: int,
    peak_lr: float,
    kl_weight: float,
    workers: int,
    mixed_precision: bool = False,
) -> dict:
    """Train `vae` until the budget is spent and return the final checkpoint's state."""
    optimizers = build_optimizers(vae, peak_lr, workers)
    gradients = ParallelGradients(vae, workers, mixed_precision)
    budget, curve, step, seen = Budget(minutes), LossCurve(), 0, 0
    if state := load_checkpoint(checkpoint):
        vae.load_state_dict(state["vae"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        budget = Budget(minutes, spent=state["spent"])
        curve, step, seen = LossCurve(state["curve"]), state["step"], state["images_seen"]

    def snapshot() -> dict:
        return {
            "vae": vae.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "spent": budget.spent,
            "curve": curve.points,
            "step": step,
            "images_seen": seen,
        }

    def loss(batch: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = vae.encode(batch).latent_dist
        restored = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = posterior.kl().mean() / noise[0].numel()
        return reconstruction_loss(restored, batch) + kl_weight * divergence

    latent_shape = (
        batch_size,
        vae.config.latent_channels,
        *(side // 4 for side in images.shape[2:]),
    )

    with Progress() as bar:
        task = bar.add_task("autoencoder", total=1.0)
        while (progress := budget.progress) < 1:
            set_learning_rate(optimizers, learning_rate(progress, peak_lr))
            batch = images[torch.randint(len(images), (batch_size,))]
            value = gradients.compute(loss, batch, torch.randn(latent_shape))
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            seen += batch_size
            if curve.add(value):
                bar.update(
                    task,
                    completed=progress,
                    description=f"autoencoder, step {step}, loss {curve.points[-1]:.4f}",
                )
            if step % CHECKPOINT_EVERY == 0:
                save_checkpoint(checkpoint, snapshot())
    save_checkpoint(checkpoint, snapshot())
    return snapshot()


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """The unscaled latent of every picture: the small table the denoiser is trained on."""
    return torch.cat([vae.encode(part).latent_dist.mode() for part in images.split(32)])


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """Mean over the pictures of the PSNR in decibels, on the 8-bit scale."""
    values = []
    for part in images.split(32):
        restored = vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((restored - part) / 2).square().mean(dim=(1, 2, 3))
        values.append(-10 * torch.log10(error))
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
