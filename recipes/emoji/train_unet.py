"""Stage 2: the denoiser and the text encoder, trained together on the table of latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipes.shared.train_denoiser import CaptionTable, Settings, shuffled_batches, train_denoiser

TEXT_WIDTH = 160


class TextToLatent(nn.Module):
    """The two networks that are trained together, so that one optimizer and one average do."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                projection_dim=TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),  # attention at 4x4 only
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,  # by a quirk of diffusers this is the number of heads
            norm_num_groups=16,
        )

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The prediction for noisy latents, given the tokens of their captions."""
        text = self.text_encoder(tokens).last_hidden_state
        return self.unet(noisy, timesteps, encoder_hidden_states=text).sample


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


def build_pipeline(
    vae: AutoencoderKL, model: TextToLatent, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as one pipeline, without safety checker: it can draw little but emoji."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stratified_timesteps(batch_size: int, count: int) -> torch.Tensor:
    """Random timesteps spread evenly over the schedule: less noise in the loss than free draws."""
    positions = (torch.arange(batch_size) + torch.rand(batch_size)) / batch_size
    return (positions * count).long().clamp(max=count - 1)


def timestep_weights(scheduler: DDIMScheduler, limit: float = 5.0) -> torch.Tensor:
    """The weight of each timestep's error in v, with mean 1.

    An error in v is one in the clean latent times (signal-to-noise ratio + 1).  Where little noise
    is left that factor is capped: there the picture is settled, and only noise would be learned.
    """
    signal = scheduler.alphas_cumprod
    factor = 1 / (1 - signal)  # the ratio plus one
    weights = factor.clamp(max=limit) / factor
    return weights / weights.mean()


def train_unet(
    latents: torch.Tensor,
    captions: list[list[str]],
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    settings: Settings,
    export: Callable[[TextToLatent, dict], None],
) -> None:
    """Train until the budget is spent; every so often hand the averaged weights to `export`."""
    model = TextToLatent(tokenizer, latents.shape[1])
    scheduler = build_scheduler()
    weights = timestep_weights(scheduler)
    table = CaptionTable(tokenizer, captions)

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        for indices in shuffled_batches(len(latents), settings.batch_size):
            clean = latents[indices]
            yield (
                clean,
                torch.randn_like(clean),
                stratified_timesteps(len(clean), len(weights)),
                table.draw(indices, settings.caption_drop),
            )

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        prediction = model(noisy, timesteps, tokens)
        errors = functional.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))
        return (weights[timesteps] * errors).mean()

    train_denoiser(model, loss, batches(), checkpoint, settings, lambda state: export(model, state))
