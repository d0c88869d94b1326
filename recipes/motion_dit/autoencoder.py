"""Stage 1: an `AutoencoderKLLTXVideo`, from 17 frames of 32x32 pixels to 9 of 4x4 and back.

The first latent frame holds the first frame alone, each later one two frames more; so the encoder
looks back only, and a still picture is encoded as it would be at the beginning of a clip.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor, nn

from adaptive_diffusion import psnr
from recipes.motion.data import SUBJECTS, draw_start, render, training_pairs
from recipes.shared.train_denoiser import train_denoiser
from recipes.shared.train_vae import reconstruction_loss
from recipes.shared.training import Settings

CHANNELS = 64
LATENT_CHANNELS = 16
WINDOW = 9
"""Frames of a clip seen at a time in training, which costs half of what all would."""


def build_autoencoder() -> AutoencoderKLLTXVideo:
    """Sixteen pixels to a channel group first, then one halving of width, height and time."""
    return AutoencoderKLLTXVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(CHANNELS,),
        down_block_types=("LTXVideoDownBlock3D",),
        decoder_block_out_channels=(CHANNELS,),
        layers_per_block=(1, 1),
        decoder_layers_per_block=(3, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("conv",),
        upsample_residual=(True,),
        upsample_factor=(1,),
        patch_size=4,
    )


def windows(sprites: Tensor, frames: int, batch_size: int) -> Iterator[Tensor]:
    """Endless batches of stretches of clips, `(batch, 3, WINDOW, 32, 32)`."""
    pairs, generator = training_pairs(), torch.Generator()
    while True:
        batch = []
        for _ in range(batch_size):
            subject, motion = pairs[torch.randint(len(pairs), ()).item()]
            generator.manual_seed(torch.randint(2**31, ()).item())
            clip = render(sprites[SUBJECTS.index(subject)], motion, draw_start(generator), frames)
            first = torch.randint(frames - WINDOW + 1, ()).item()
            batch.append(clip[first : first + WINDOW].transpose(0, 1))
        yield torch.stack(batch)


def train_autoencoder(
    sprites: Tensor, frames: int, checkpoint: Path, settings: Settings, kl_weight: float
) -> tuple[AutoencoderKLLTXVideo, dict]:
    """The averaged autoencoder when the budget is spent, and how far it has come."""
    vae = build_autoencoder()

    def loss(clips: Tensor, noise: Tensor) -> Tensor:
        posterior = vae.encode(clips).latent_dist
        restored = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = posterior.kl().float().mean() / noise[0].numel()
        return reconstruction_loss(restored.float(), clips) + kl_weight * divergence

    state = _train_average(vae, loss, sprites, frames, checkpoint, settings)
    return vae.requires_grad_(False), state


def train_decoder(
    vae: AutoencoderKLLTXVideo,
    sprites: Tensor,
    frames: int,
    checkpoint: Path,
    settings: Settings,
) -> dict:
    """Let the decoder of `vae` learn on while the latents stay what they are."""

    def loss(clips: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            posterior = vae.encode(clips).latent_dist
            latents = posterior.mean + posterior.std * noise
        return reconstruction_loss(vae.decode(latents).sample.float(), clips)

    vae.decoder.requires_grad_(True)
    state = _train_average(vae.decoder, loss, sprites, frames, checkpoint, settings)
    vae.decoder.requires_grad_(False)
    return state


def _train_average(
    part: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    sprites: Tensor,
    frames: int,
    checkpoint: Path,
    settings: Settings,
) -> dict:
    """Train, leave the averaged weights in `part`, and say how far it has come."""
    found: dict = {}

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for clips in windows(sprites, frames, settings.batch_size):
            latent = (len(clips), LATENT_CHANNELS, (WINDOW + 1) // 2, 4, 4)
            yield clips, torch.randn(latent)

    def keep(state: dict) -> None:
        found.update(state, average=copy.deepcopy(part.state_dict()))

    train_denoiser(part, loss, batches(), checkpoint, settings, keep)
    part.load_state_dict(found["average"])
    return found


@torch.no_grad()
def encode(vae: AutoencoderKLLTXVideo, clips: Tensor) -> Tensor:
    """The latents, as they come, of clips `(n, frames, 3, 32, 32)`."""
    return torch.cat(
        [vae.encode(part.transpose(1, 2)).latent_dist.mode() for part in clips.split(16)]
    )


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLLTXVideo, clips: Tensor) -> Tensor:
    """PSNR in decibels of every frame of the clips after encoding and decoding, `(n, frames)`."""
    values = []
    for part in clips.split(16):
        restored = vae.decode(encode(vae, part)).sample.clamp(-1, 1).transpose(1, 2)
        frames = psnr(restored.flatten(0, 1), part.flatten(0, 1), data_range=2.0)
        values.append(frames.view(part.shape[:2]))
    return torch.cat(values)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """Bring every latent channel to mean 0 and spread 1, and tell the pipelines how."""
    vae.latents_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
    vae.latents_std.copy_(latents.std(dim=(0, 2, 3, 4)))
    mean, spread = (each.view(1, -1, 1, 1, 1) for each in (vae.latents_mean, vae.latents_std))
    return (latents - mean) / spread
