"""Train a denoiser together with its text encoder until a budget in minutes is spent.

A step draws pictures, captions and noise, takes the gradient of the loss on all cores, and moves
the weights.  What is exported is not the last weights but their exponential average over the
steps: it samples better, and long before the learning rate has come down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from rich.progress import Progress
from torch import nn
from transformers import PreTrainedTokenizerBase

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


class CaptionTable:
    """Every caption of every picture as token ids, and the empty caption."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, captions: list[list[str]]) -> None:
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


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    """Token ids just as the pipeline makes them, padded on the side that the tokenizer says."""
    return tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def shuffled_batches(count: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Endless batches of indices: every picture equally often, in a new order each round."""
    pending = torch.empty(0, dtype=torch.long)
    while True:
        while len(pending) < batch_size:
            pending = torch.cat([pending, torch.randperm(count)])
        yield pending[:batch_size]
        pending = pending[batch_size:]


@dataclass(frozen=True)
class Settings:
    """What one may want to change about the training of a denoiser."""

    minutes: float
    batch_size: int
    peak_lr: float
    caption_drop: float
    export_minutes: float
    workers: int
    mixed_precision: bool = False


def train_denoiser(
    model: nn.Module,
    loss: Callable[..., torch.Tensor],
    batches: Iterator[tuple[torch.Tensor, ...]],
    checkpoint: Path,
    settings: Settings,
    export: Callable[[dict], None],
    adamw_names: tuple[str, ...] = (),
) -> None:
    """Train until the budget is spent; every so often `export` finds the average in `model`.

    Args:
        loss: the mean loss of one batch, whose tensors it is given.
        batches: endless, with all the randomness that the loss needs.
        export: is told how far the training has come, as it is kept in the checkpoint.
        adamw_names: parts of `model` besides the usual ones that Muon does not suit.
    """
    gradients = ParallelGradients(model, settings.workers, settings.mixed_precision)
    parameters = gradients.parameters
    optimizers = build_optimizers(model, settings.peak_lr, settings.workers, adamw_names)
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

    def export_average() -> None:
        average.store(parameters)
        average.copy_to(parameters)
        export(snapshot())
        average.restore(parameters)

    next_export = time.monotonic() + 60 * min(5, settings.export_minutes)
    with Progress() as bar:
        task = bar.add_task("denoiser", total=1.0)
        while (progress := budget.progress) < 1:
            set_learning_rate(optimizers, learning_rate(progress, settings.peak_lr))
            value = gradients.compute(loss, *next(batches))
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
