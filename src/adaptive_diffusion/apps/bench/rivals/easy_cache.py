"""EasyCache: a denoiser call is skipped while its output has probably changed little.

The difference between its output and its input is used again; `change_rate` has the rule and its
sources. x is what the denoiser is called with, and y is what it answers. The first call of a step
decides for all calls of that step. Each of them has a difference of its own.

In its favour the decision looks at all numbers of a call. ComfyUI looks at every eighth row and
column of one prompt's half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.containers import map_tensors, tensors
from adaptive_diffusion.adapters.diffusers.components import is_side_network
from adaptive_diffusion.adapters.diffusers.scheduler_step import timesteps_of
from adaptive_diffusion.apps.bench.rivals.base import Rival, Work
from adaptive_diffusion.apps.bench.rivals.change_rate import ChangeRate, is_within
from adaptive_diffusion.apps.bench.rivals.meter import Meter, metered

__all__ = ["EasyCache"]

_MEASURING = 2  # steps


class EasyCache(Rival):
    """Skips while the accumulated change is below `threshold` (ComfyUI: 0.2)."""

    family = "EasyCache"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.name = f"EasyCache, threshold {threshold:g}"

    def reason_against(self, pipe: Any) -> str | None:
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, _EasyCache(self.threshold)) as work:
            yield work


class _EasyCache(Meter):
    """One generation under EasyCache."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self._threshold = threshold
        self._begin(0)

    def _begin(self, steps: int) -> None:
        self._steps = steps
        self._index = 0
        self._skips: bool | None = None  # in this step; None before its first call
        self._branches: dict[tuple[int, int], _Branch] = {}  # each denoiser's n-th calls in a step
        self._entering: Tensor | None = None

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        returned = super().set_timesteps(scheduler, set_timesteps, args, kwargs)
        self._begin(len(timesteps_of(scheduler)))
        return returned

    def call_denoiser(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        self._entering = next(iter(tensors((args, kwargs))), None)
        return super().call_denoiser(module, call, args, kwargs)

    def run(self, module: nn.Module, position: int, call: Callable[[], Any]) -> Any:
        entering = self._entering
        if entering is None or is_side_network(module):
            return call()
        branch = self._branches.setdefault((id(module), position), _Branch(self._threshold))
        if self._skips is None:
            may_skip = is_within(self._index, self._steps, _MEASURING)
            self._skips = may_skip and branch.rate.skips(entering)
        if not self._skips or not branch.rate.is_known:
            branch.answer = call()
            branch.learn(entering)
            return branch.answer
        return branch.reuse(entering)

    def solve(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._skips is not None:
            self._index += 1
            self._skips = None
        return super().solve(scheduler, step, args, kwargs)


class _Branch:
    """One denoiser call of every step.

    Only channels that the input and the output have in common are compared and changed: others are
    a mask's or a predicted variance's.
    """

    def __init__(self, threshold: float) -> None:
        self.rate = ChangeRate(threshold)
        self.answer: Any = None

    def learn(self, entering: Tensor) -> None:
        """Notes the answer, unless it is more than one tensor or of another shape."""
        outputs = tensors(self.answer)
        if len(outputs) == 1 and outputs[0].ndim == entering.ndim > 1:
            channels = min(entering.shape[1], outputs[0].shape[1])
            entering, output = entering[:, :channels], outputs[0][:, :channels]
            if entering.shape == output.shape:
                self.rate.learn(entering, output)

    def reuse(self, entering: Tensor) -> Any:
        def moved(output: Tensor) -> Tensor:
            channels = min(entering.shape[1], output.shape[1])
            reused = self.rate.reuse(entering[:, :channels])
            return torch.cat([reused.to(output.dtype), output[:, channels:]], dim=1)

        return map_tensors(moved, self.answer)
