"""What both training stages share: a budget in minutes, a learning rate, checkpoints, curves."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from torch import nn

CURVE_EVERY = 25
"""Steps averaged into one point of a loss curve."""


class Budget:
    """A wall-clock budget that goes on where an interrupted run stopped."""

    def __init__(self, minutes: float, spent: float = 0.0) -> None:
        self.seconds = minutes * 60
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds trained so far, over all resumed runs."""
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """From 0 at the start to 1 when the budget is used up."""
        return min(self.spent / self.seconds, 1.0) if self.seconds else 1.0


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


def count_parameters(module: nn.Module) -> int:
    """All weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


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
