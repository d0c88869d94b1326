"""Measures how much of the denoiser's work runs at every step.

Work is counted in multiply-adds: those of the linear and convolution layers and those of the
attention products. Caches replace the forward methods of blocks, of their parts or of layers; the
layers' own methods run only where the work is really done, so what a cache skips is not counted,
whatever it skips. (Counting blocks would take a UNet's small blocks for its large ones, and see
nothing of a cache that skips attention alone.)

The first call of a denoiser in a step is compared with its first call of the generation, its second
with the second (separate calls for guidance): those are computed in full, since no method has
anything to reuse yet.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from adaptive_diffusion.adapters.diffusers.components import denoisers, schedulers
from adaptive_diffusion.adapters.diffusers.interception import intercept
from adaptive_diffusion.apps.bench.rivals.base import Work

__all__ = ["Meter", "metered"]


class Meter:
    """Stands in for the denoiser calls and scheduler steps of one generation.

    A method that acts there overrides `run` or `solve`.

    Attributes:
        work: what was measured.
        calls: how often each denoiser, by its id, was called in this step.
    """

    def __init__(self) -> None:
        self.work = Work()
        self.calls: Counter[int] = Counter()
        self._count = 0  # multiply-adds so far
        self._full: dict[tuple[int, int], int] = {}  # of a denoiser's n-th call in a step
        self._step_ran = self._step_full = 0

    def restart(self) -> None:
        """Forgets what was measured."""
        self.work.per_step.clear()
        self._full.clear()
        self._end_step()

    def add(self, multiply_adds: int) -> None:
        self._count += multiply_adds

    def run(self, module: nn.Module, position: int, call: Callable[[], Any]) -> Any:
        """Answers the denoiser's call, the `position`-th of this step counted from 0."""
        return call()

    def solve(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Answers the scheduler's step."""
        return step(scheduler, *args, **kwargs)

    def call_denoiser(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        position = self.calls[id(module)]
        self.calls[id(module)] += 1
        before = self._count
        answer = self.run(module, position, lambda: call(*args, **kwargs))
        ran = self._count - before
        self._step_ran += ran
        self._step_full += self._full.setdefault((id(module), position), ran)
        return answer

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.calls:  # else this is a second scheduler's step, for another part of the sample
            self.work.per_step.append(min(1.0, self._step_ran / max(1, self._step_full)))
            self._end_step()
        return self.solve(scheduler, step, args, kwargs)

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        return set_timesteps(scheduler, *args, **kwargs)

    def hear_elsewhere(self) -> None:
        pass

    def _end_step(self) -> None:
        self.calls.clear()
        self._step_ran = self._step_full = 0


@contextmanager
def metered(pipe: Any, meter: Meter) -> Iterator[Work]:
    """Leads the pipeline's calls through the meter, and leaves its models as they were found."""
    models = denoisers(pipe)
    with ExitStack() as stack:
        stack.enter_context(_left_as_found(models))
        for model in models:
            _count_layers(model, meter)
        stack.enter_context(_counted_attention(meter))
        stack.enter_context(intercept(meter, models, schedulers(pipe)))
        yield meter.work


@contextmanager
def _left_as_found(models: list[nn.Module]) -> Iterator[None]:
    """Puts back all modules' attributes, and the order of their parts.

    Caches leave replaced methods and marks behind, or put a model's parts back in another order.
    """
    found = [
        (module, dict(vars(module)), dict(module._modules))
        for model in models
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, parts in found:
            vars(module).clear()
            vars(module).update(attributes)
            module._modules.clear()
            module._modules.update(parts)


def _count_layers(model: nn.Module, meter: Meter) -> None:
    """Lets the layers' own forward methods count.

    A cache that is turned on later wraps these. A module's hooks would run also where a cache
    answers for the layer.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            _count(layer, meter, layer.in_features)
        elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            _count(layer, meter, layer.in_channels // layer.groups * math.prod(layer.kernel_size))


def _count(layer: nn.Module, meter: Meter, inputs: int) -> None:
    """For a layer each of whose outputs is made of so many inputs."""
    forward = layer.forward

    @functools.wraps(forward)
    def counted(*args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = forward(*args, **kwargs)
        meter.add(output.numel() * inputs)
        return output

    vars(layer)["forward"] = counted


@contextmanager
def _counted_attention(meter: Meter) -> Iterator[None]:
    """No module makes the attention products: diffusers calls torch's function for them."""
    attention: Callable[..., Tensor] = functional.scaled_dot_product_attention

    def counted(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        output = attention(query, key, value, *args, **kwargs)
        meter.add((query.numel() + output.numel()) * key.shape[-2])
        return output

    setattr(functional, "scaled_dot_product_attention", counted)  # noqa: B010  # for mypy
    try:
        yield
    finally:
        setattr(functional, "scaled_dot_product_attention", attention)  # noqa: B010
