"""Train a denoiser to predict the velocity between clean latents and noise, on a DDIM schedule.

The latents may be of pictures or of clips: their dimensions after the first do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer

from recipes.shared.train_denoiser import CaptionTable, shuffled_batches, train_denoiser
from recipes.shared.training import Settings, stratified


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule with a higher end.

    The latents are small, so a little more noise is needed until nothing of the picture is left.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def timestep_weights(scheduler: DDIMScheduler, limit: float = 5.0) -> torch.Tensor:
    """The weight of each timestep's error in v, with mean 1.

    An error in v is one in the clean latent times (signal-to-noise ratio + 1).  Where little noise
    is left that factor is capped: there the picture is settled, and only noise would be learned.
    """
    signal = scheduler.alphas_cumprod
    factor = 1 / (1 - signal)  # the ratio plus one
    weights = factor.clamp(max=limit) / factor
    return weights / weights.mean()


def train_velocity(
    model: nn.Module,
    latents: torch.Tensor,
    captions: list[list[str]],
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    settings: Settings,
    caption_drop: float,
    export: Callable[[dict], None],
) -> None:
    """Train until the budget is spent; every so often `export` finds the average in `model`.

    Args:
        model: takes noisy latents, timesteps and the tokens of the captions.
        latents: `(n, ...)`, of any floating type.
        captions: every way to caption each of the latents.
        caption_drop: how often the empty caption takes the place of one.
        export: is told how far the training has come, as it is kept in the checkpoint.
    """
    scheduler = build_scheduler()
    weights = timestep_weights(scheduler)
    table = CaptionTable(tokenizer, captions)

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        for indices in shuffled_batches(len(latents), settings.batch_size):
            clean = latents[indices].float()
            yield (
                clean,
                torch.randn_like(clean),
                (stratified(len(clean)) * len(weights)).long().clamp(max=len(weights) - 1),
                table.draw(indices, caption_drop),
            )

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        prediction = model(noisy, timesteps, tokens)
        errors = functional.mse_loss(prediction, target, reduction="none").flatten(1).mean(dim=1)
        return (weights[timesteps] * errors).mean()

    train_denoiser(model, loss, batches(), checkpoint, settings, export)
