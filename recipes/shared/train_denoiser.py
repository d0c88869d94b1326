"""Train a denoiser together with its text encoder until a budget in minutes is spent.

A step draws pictures, captions and noise, takes the gradient of the loss on all cores, and moves
the weights.  What is exported is not the last weights but their exponential average over the
steps: it samples better, and long before the learning rate has come down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from recipes.shared.training import Settings, stratified, train


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


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int | None = None
) -> torch.Tensor:
    """Token ids just as the pipeline makes them, padded on the side that the tokenizer says.

    `length` is how many; the tokenizer's own maximum unless it is given.
    """
    return tokenizer(
        texts,
        padding="max_length",
        max_length=length or tokenizer.model_max_length,
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


def stratified_sigmas(batch_size: int) -> torch.Tensor:
    """Noise levels from the logistic normal distribution, one from each of equal shares.

    Most lie in the middle: near 0 there is nothing left to learn, near 1 only the caption to go by.
    """
    return torch.special.ndtri(stratified(batch_size).clamp(1e-4, 1 - 1e-4)).sigmoid()


def average_of(parameters: list[nn.Parameter]) -> EMAModel:
    """The exponential average of the weights, which forgets faster at first."""
    return EMAModel(parameters, decay=0.9995, use_ema_warmup=True, power=0.75)


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

    The arguments are those of `train`.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = average_of(parameters)

    def export_average(state: dict) -> None:
        average.store(parameters)
        average.copy_to(parameters)
        export(state)
        average.restore(parameters)

    train(
        model,
        "denoiser",
        loss,
        batches,
        checkpoint,
        settings,
        adamw_names=adamw_names,
        average=average,
        export=export_average,
    )
