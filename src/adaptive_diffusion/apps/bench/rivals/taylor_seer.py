"""TaylorSeer: between computed steps, what attention and feed-forward layers put out is forecast.

Liu et al., "From Reusing to Forecasting: Accelerating Diffusion Models with TaylorSeers", ICCV 2025
(https://arxiv.org/abs/2503.06923), as diffusers has it: a Taylor series from finite differences,
with a computed step at a fixed interval.

Two of its forms. In full, the outputs of each block's attentions, feed-forwards and direct
projections are forecast, as in the paper (diffusers' default names match attentions only, and those
of few models). "Lite" is diffusers' own: it forecasts the model's last projection alone. The
differences are kept in float32, which is more exact than the default bfloat16.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from adaptive_diffusion.apps.bench.rivals.base import Work
from adaptive_diffusion.apps.bench.rivals.diffusers_cache import (
    DiffusersCache,
    NamedCalls,
    blocks_of,
    cached_models,
    turned_on,
)
from adaptive_diffusion.apps.bench.rivals.meter import metered

__all__ = ["TaylorSeer"]


class TaylorSeer(DiffusersCache):
    """Computes every `interval`-th step after the first ones."""

    settings = "TaylorSeerCacheConfig"

    def __init__(self, interval: int, order: int, lite: bool = False) -> None:
        self.interval = interval
        self.order = order
        self.lite = lite
        self.family = "TaylorSeer lite" if lite else "TaylorSeer"
        self.name = f"{self.family}, every {interval}, order {order}"

    def reason_against(self, pipe: Any) -> str | None:
        if reason := super().reason_against(pipe):
            return reason
        for model in cached_models(pipe):
            if not _forecast_parts(model):
                return f"{type(model).__name__} has no transformer blocks that diffusers knows"
            if self.lite and not isinstance(getattr(model, "proj_out", None), nn.Linear):
                return f"{type(model).__name__} has no last projection called proj_out"
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, NamedCalls()) as work, turned_on(pipe, self._config):
            yield work

    def _config(self, model: nn.Module) -> Any:
        from diffusers import TaylorSeerCacheConfig

        parts = [re.escape(name) for name in _forecast_parts(model)]
        return TaylorSeerCacheConfig(
            cache_interval=self.interval,
            max_order=self.order,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=self.lite,
            cache_identifiers=None if self.lite else parts,
        )


def _forecast_parts(model: nn.Module) -> list[str]:
    """The names of the parts of the blocks that are forecast."""
    from diffusers.hooks._common import _ATTENTION_CLASSES, _FEEDFORWARD_CLASSES

    kinds = (*_ATTENTION_CLASSES, *_FEEDFORWARD_CLASSES, nn.Linear)
    blocks = {id(block) for block in blocks_of(model)}
    names: list[str] = []
    for name, block in model.named_modules():
        if id(block) in blocks:
            parts = [part for part, module in block.named_children() if isinstance(module, kinds)]
            source = inspect.getsource(type(block).forward)
            if all(source.count(f"self.{part}(") == 1 for part in parts):
                names += [f"{name}.{part}" for part in parts]
            else:
                names.append(name)
    return names
