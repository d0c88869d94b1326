"""Stage 2: the denoiser and the text encoder, trained together on the table of latents."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from optimizer import build_optimizers, set_learning_rate
from rich.progress import Progress
from torch import nn
from torch.nn import functional
from training import (
    Budget,
    LossCurve,
    ParallelGradients,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 160
CHECKPOINT_EVERY = 200


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


class CaptionTable:
    """Every caption of every picture as token ids, and the empty caption."""

    def __init__(self, tokenizer: CLIPTokenizer, captions: list[list[str]]) -> None:
        self._tokens = [tokenize(tokenizer, row) for row in captions]
        self._empty = tokenize(tokenizer, [""])[0]

    def draw(self, indices: torch.Tensor, drop: float) -> torch.Tensor:
        """One random caption for each picture, with probability `drop` the empty one."""
        rows = []
        for index in indices.tolist():
            choices = self._tokens[index]
            rows.append(choices[torch.randint(len(choices), ()).item()])
        empty = torch.rand(len(rows), 1) < drop
        return torch.where(empty, self._empty, torch.stack(rows))


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids just as `StableDiffusionPipeline` makes them."""
    return tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def shuffled_batches(count: int, batch_size: int):
    """Endless batches of indices: every picture equally often, in a new order each round."""
    pending = torch.empty(0, dtype=torch.long)
    while True:
        while len(pending) < batch_size:
            pending = torch.cat([pending, torch.randperm(count)])
        yield pending[:batch_size]
        pending = pending[batch_size:]


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


@dataclass(frozen=True)
class Settings:
    """What one may want to change about stage 2."""

    minutes: float
    batch_size: int
    peak_lr: float
    caption_drop: float
    export_minutes: float
    workers: int


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
    gradients = ParallelGradients(model, settings.workers)
    parameters = gradients.parameters
    optimizers = build_optimizers(model, settings.peak_lr)
    average = EMAModel(parameters, decay=0.9995, use_ema_warmup=True, power=0.75)
    budget, curve, step, seen = Budget(settings.minutes), LossCurve(), 0, 0
    if state := load_checkpoint(checkpoint):
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average.load_state_dict(state["average"])
        budget = Budget(settings.minutes, spent=state["spent"])
        curve, step, seen = LossCurve(state["curve"]), state["step"], state["images_seen"]

    def snapshot() -> dict:
        return {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "average": average.state_dict(),
            "spent": budget.spent,
            "curve": curve.points,
            "step": step,
            "images_seen": seen,
        }

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        prediction = model(noisy, timesteps, tokens)
        errors = functional.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))
        return (weights[timesteps] * errors).mean()

    def export_average() -> None:
        average.store(parameters)
        average.copy_to(parameters)
        export(model, snapshot())
        average.restore(parameters)

    batches = shuffled_batches(len(latents), settings.batch_size)
    next_export = time.monotonic() + 60 * min(5, settings.export_minutes)
    with Progress() as bar:
        task = bar.add_task("denoiser", total=1.0)
        while (progress := budget.progress) < 1:
            set_learning_rate(optimizers, learning_rate(progress, settings.peak_lr))
            indices = next(batches)
            clean = latents[indices]
            value = gradients.compute(
                loss,
                clean,
                torch.randn_like(clean),
                stratified_timesteps(len(clean), len(weights)),
                table.draw(indices, settings.caption_drop),
            )
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            average.step(parameters)
            step += 1
            seen += settings.batch_size
            if curve.add(value):
                bar.update(
                    task,
                    completed=progress,
                    description=f"denoiser, step {step}, loss {curve.points[-1]:.4f}",
                )
            if step % CHECKPOINT_EVERY == 0:
                save_checkpoint(checkpoint, snapshot())
            if time.monotonic() >= next_export:
                export_average()
                next_export = time.monotonic() + 60 * settings.export_minutes
    save_checkpoint(checkpoint, snapshot())
    export_average()
