"""FasterCache: attention is extrapolated, and the unconditional half follows the conditional one.

Lv et al., "FasterCache: Training-Free Video Diffusion Model Acceleration with High Quality", ICLR
2025 (https://arxiv.org/abs/2410.19355), as diffusers has it, with its default ranges of timesteps.

Its second idea needs conditional and unconditional samples in one call, and an output of the shape
of a picture or a video. Where they are separate calls, or the output is a sequence of tokens (which
diffusers can't split into frequencies yet), attention alone is saved, with a state for each call.
Which it is, is seen at the first call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from adaptive_diffusion.adapters.diffusers.components import is_side_network, schedulers
from adaptive_diffusion.apps.bench.rivals.base import Work
from adaptive_diffusion.apps.bench.rivals.diffusers_cache import (
    DiffusersCache,
    cached_models,
)
from adaptive_diffusion.apps.bench.rivals.meter import metered
from adaptive_diffusion.apps.bench.rivals.pyramid_attention import OwnStates

__all__ = ["FasterCache"]

_FRAMES_FIRST = ("CogVideoX", "ConsisID")  # whose videos are (B, F, C, H, W)


class FasterCache(DiffusersCache):
    """Computes attention every `attention` steps, the unconditional half every `guidance` steps."""

    family = "FasterCache"
    settings = "FasterCacheConfig"

    def __init__(self, attention: int, guidance: int) -> None:
        self.attention = attention
        self.guidance = guidance
        self.name = f"FasterCache, attention every {attention}, guidance every {guidance}"

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, _Calls(schedulers(pipe)[0], self)) as work:
            try:
                yield work
            finally:
                for model in cached_models(pipe):
                    if model.is_cache_enabled:
                        model.disable_cache()


class _Calls(OwnStates):
    """Turns the cache on at a model's first call, when its input can be seen."""

    def __init__(self, scheduler: Any, rival: FasterCache) -> None:
        super().__init__(scheduler)
        self._rival = rival

    def call_denoiser(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not is_side_network(module) and not module.is_cache_enabled:
            with _quiet():
                sample = args[0] if args else kwargs["hidden_states"]
                module.enable_cache(self._config(module, sample))
        return super().call_denoiser(module, call, args, kwargs)

    def _config(self, model: nn.Module, sample: Tensor) -> Any:
        from diffusers import FasterCacheConfig

        return FasterCacheConfig(
            spatial_attention_block_skip_range=self._rival.attention,
            temporal_attention_block_skip_range=self._rival.attention,
            unconditional_batch_skip_range=self._rival.guidance,
            attention_weight_callback=lambda _: 0.5,  # diffusers' default, without its warning
            current_timestep_callback=self.timestep,
            is_guidance_distilled=sample.ndim < 4 or sample.shape[0] % 2 == 1,
            tensor_format=_format(model, sample),
        )


def _format(model: nn.Module, sample: Tensor) -> str:
    if sample.ndim < 5:
        return "BCHW"
    return "BFCHW" if type(model).__name__.startswith(_FRAMES_FIRST) else "BCFHW"


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers warns at each start that this cache is experimental."""
    logger = logging.getLogger("diffusers.hooks.faster_cache")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
