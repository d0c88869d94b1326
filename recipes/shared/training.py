"""What all stages of training share: the loop, its budget, learning rate, checkpoints, curve."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from diffusers.training_utils import EMAModel
from matplotlib import pyplot
from rich.progress import Progress
from torch import nn

from recipes.shared.optimizer import build_optimizers, set_learning_rate

CURVE_EVERY = 25
"""Steps averaged into one point of a loss curve."""
CHECKPOINT_EVERY = 200
FIRST_EXPORT_MINUTES = 5


@dataclass(frozen=True)
class Settings:
    """What one may want to change about a stage of training."""

    minutes: float
    batch_size: int
    peak_lr: float
    workers: int
    export_minutes: float = math.inf
    mixed_precision: bool = False


class Budget:
    """A wall-clock budget that goes on where an interrupted run stopped.

    `began` is what had been spent, in seconds, when the optimizers began: with the stage that is
    trained now.
    """

    def __init__(self, minutes: float, spent: float = 0.0, began: float = 0.0) -> None:
        self.seconds = minutes * 60
        self.began = began
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds trained so far, over all resumed runs."""
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """From 0 where the optimizers began to 1 when the budget is used up."""
        length = self.seconds - self.began
        return min((self.spent - self.began) / length, 1.0) if length > 0 else 1.0


class LossCurve:
    """Averages of the loss over `CURVE_EVERY` steps each."""

    def __init__(self, points: list[float] | None = None) -> None:
        self.points = points or []
        self._recent: list[float] = []

    def add(self, loss: float) -> bool:
        """Record one step; True when this has completed a point."""
        self._recent.append(loss)
        if len(self._recent) < CURVE_EVERY:
            return False
        self.points.append(sum(self._recent) / CURVE_EVERY)
        self._recent.clear()
        return True


class ParallelGradients:
    """Gradients of a batch, each worker thread taking an equal share on one core.

    PyTorch's own threads meet after every operation, so one busy core holds up all of them.
    These meet once a step, which on a shared machine is several times faster.  Frozen parameters
    are left out.  In mixed precision, convolutions and matrix products are computed in bfloat16.
    """

    def __init__(self, module: nn.Module, workers: int, mixed_precision: bool = False) -> None:
        torch.set_num_threads(1)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.workers = workers
        self.mixed_precision = mixed_precision
        self._pool = ThreadPoolExecutor(workers)

    def compute(self, loss: Callable[..., torch.Tensor], *batch: torch.Tensor) -> float:
        """Set every parameter's gradient to that of the mean loss, and return the mean loss.

        All randomness has to be in `batch`, drawn before: then the result is reproducible.
        """

        def share(*part: torch.Tensor) -> tuple[float, tuple[torch.Tensor, ...]]:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed_precision):
                value = loss(*part)
            return value.item(), torch.autograd.grad(value, self.parameters)

        parts = [tensor.chunk(self.workers) for tensor in batch]
        losses, gradients = zip(*self._pool.map(share, *parts), strict=True)
        for parameter, *shares in zip(self.parameters, *gradients, strict=True):
            parameter.grad = sum(shares) / len(shares)
        return sum(losses) / len(losses)


def train(
    model: nn.Module,
    name: str,
    loss: Callable[..., torch.Tensor],
    batches: Iterator[tuple[torch.Tensor, ...]],
    checkpoint: Path,
    settings: Settings,
    *,
    adamw_names: tuple[str, ...] = (),
    average: EMAModel | None = None,
    export: Callable[[dict], None] = lambda _: None,
) -> dict:
    """Train `model` until the budget is spent; return how far it has come, as in the checkpoint.

    Args:
        name: what the progress bar calls it.
        loss: the mean loss of one batch, whose tensors it is given.
        batches: endless, with all the randomness that the loss needs.
        adamw_names: parts of `model` besides the usual ones that Muon does not suit.
        average: of the parameters to train, which is kept up.
        export: called every so often, and at the end, with how far the training has come.
    """
    gradients = ParallelGradients(model, settings.workers, settings.mixed_precision)
    optimizers = build_optimizers(model, settings.peak_lr, settings.workers, adamw_names)
    budget, curve, step, seen = Budget(settings.minutes), LossCurve(), 0, 0
    if state := load_checkpoint(checkpoint):
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if average is not None:
            average.load_state_dict(state["average"])
        budget = Budget(settings.minutes, state["spent"], state.get("began", 0.0))
        curve, step, seen = LossCurve(state["curve"]), state["step"], state["images_seen"]

    def snapshot() -> dict:
        return {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "average": None if average is None else average.state_dict(),
            "spent": budget.spent,
            "began": budget.began,
            "curve": curve.points,
            "step": step,
            "images_seen": seen,
        }

    next_export = time.monotonic() + 60 * min(FIRST_EXPORT_MINUTES, settings.export_minutes)
    with Progress() as bar:
        task = bar.add_task(name, total=1.0)
        while (progress := budget.progress) < 1:
            set_learning_rate(optimizers, learning_rate(progress, settings.peak_lr))
            value = gradients.compute(loss, *next(batches))
            torch.nn.utils.clip_grad_norm_(gradients.parameters, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            if average is not None:
                average.step(gradients.parameters)
            step += 1
            seen += settings.batch_size
            if curve.add(value):
                bar.update(
                    task,
                    completed=progress,
                    description=f"{name}, step {step}, loss {curve.points[-1]:.4f}",
                )
            if step % CHECKPOINT_EVERY == 0:
                save_checkpoint(checkpoint, snapshot())
            if time.monotonic() >= next_export:
                export(snapshot())
                next_export = time.monotonic() + 60 * settings.export_minutes
    state = snapshot()
    save_checkpoint(checkpoint, state)
    export(state)
    return state


def stratified(count: int) -> torch.Tensor:
    """Numbers from 0 to 1, one at random from each of equal shares.

    Spread evenly, noise levels bring less noise into the loss than free draws.
    """
    return (torch.arange(count) + torch.rand(count)) / count


def count_parameters(module: nn.Module) -> int:
    """All weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def progress_record(state: dict[str, Any], samples: str) -> dict[str, Any]:
    """How far a stage has come, for `training.json`; `samples` is what it has seen."""
    return {
        "minutes": round(state["spent"] / 60, 1),
        "steps": state["step"],
        f"{samples}_seen": state["images_seen"],
        "final_loss": round(state["curve"][-1], 4) if state["curve"] else None,
    }


def seed_everything(seed: int) -> None:
    """Seed every generator the recipe draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def learning_rate(progress: float, peak: float, floor: float = 0.02) -> float:
    """Warm up over the first 3 % of the budget, then follow a cosine down to `floor` x peak."""
    if progress < 0.03:
        return peak * max(progress / 0.03, 0.01)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (floor + (1 - floor) * cosine)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that an interruption leaves the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({**state, "rng": torch.get_rng_state()}, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint and restore the random state, or return None if there is none."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    torch.set_rng_state(state["rng"])
    return state


def images_seen(checkpoint: Path) -> int:
    """How many samples the run of that checkpoint has taken in; 0 if there is none."""
    if not checkpoint.exists():
        return 0
    return torch.load(checkpoint, weights_only=True, mmap=True)["images_seen"]


def record_run(folder: Path, curves: dict[str, list[float]], run: dict[str, Any]) -> None:
    """Save the loss curves of the stages, and the figures of the run, beside the weights."""
    plot_curves(curves, folder / "loss.png")
    (folder / "training.json").write_text(json.dumps(run, indent=2) + "\n")


def plot_curves(curves: dict[str, list[float]], path: Path) -> None:
    """Save the loss curves of the stages side by side as one PNG."""
    figure, panels = pyplot.subplots(
        1, len(curves), figsize=(4.5 * len(curves), 3), layout="constrained", squeeze=False
    )
    for axes, (title, points) in zip(panels[0], curves.items(), strict=True):
        steps = [CURVE_EVERY * (index + 1) for index in range(len(points))]
        axes.plot(steps, points, linewidth=0.8)
        axes.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
