"""Muon for the matrices, AdamW for the rest: more progress per second than AdamW alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn

ADAMW_NAMES = ("conv_in", "conv_out", "quant_conv", "embeddings")
"""Parts whose weights are no maps between features, so that Muon does not suit them."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan et al., 2024); convolutions are flattened.

    The update is scaled to the size of AdamW's, so that both can share one learning rate.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, workers: int, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self._pool = ThreadPoolExecutor(workers)

    def step(self) -> None:
        """Update every parameter from its gradient, as many at a time as there are workers."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("average", torch.zeros_like(parameter))
            list(self._pool.map(partial(self._update, group), group["params"]))

    @torch.no_grad()
    def _update(self, group: dict[str, Any], parameter: nn.Parameter) -> None:
        momentum = group["momentum"]
        average = self.state[parameter]["average"].lerp_(parameter.grad, 1 - momentum)
        update = orthogonal(parameter.grad.lerp(average, momentum).flatten(1))
        scale = 0.2 * max(update.shape) ** 0.5
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonal(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Bring all singular values near 1, by Newton and Schulz's iteration with Jordan's numbers."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).contiguous()


def build_optimizers(
    module: nn.Module, lr: float, workers: int, adamw_names: tuple[str, ...] = ()
) -> list[torch.optim.Optimizer]:
    """Share the parameters that are to be trained out between the two."""
    matrices, rest = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            by_adamw = any(part in name for part in ADAMW_NAMES + adamw_names)
            (rest if by_adamw or parameter.ndim < 2 else matrices).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, fused=True)
    return [Muon(matrices, lr, workers), adamw]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """The same learning rate for all parameters."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
