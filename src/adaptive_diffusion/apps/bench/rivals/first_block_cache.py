"""First Block Cache: while the first block's residual hardly changes, the others' is reused.

ParaAttention's cache (https://github.com/chengzeyi/ParaAttention), after TeaCache (Liu et al.,
"Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model", CVPR 2025,
https://arxiv.org/abs/2411.19108), as diffusers has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

__all__ = ["FirstBlockCache", "reason_against_blocks"]


class FirstBlockCache(DiffusersCache):
    """Reuses while the relative change of the first block's residual is below `threshold`."""

    family = "First Block Cache"
    settings = "FirstBlockCacheConfig"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.name = f"First Block Cache, threshold {threshold:g}"

    def reason_against(self, pipe: Any) -> str | None:
        return super().reason_against(pipe) or reason_against_blocks(pipe)

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, NamedCalls()) as work, turned_on(pipe, self._config):
            yield work

    def _config(self, model: nn.Module) -> Any:
        from diffusers import FirstBlockCacheConfig

        return FirstBlockCacheConfig(threshold=self.threshold)


def reason_against_blocks(pipe: Any) -> str | None:
    """Why a cache that knows the blocks' inputs and outputs can't run; None if it can."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    for model in cached_models(pipe):
        blocks = blocks_of(model)
        if len(blocks) < 2:
            return f"{type(model).__name__} has no two transformer blocks"
        for block in blocks:
            try:
                TransformerBlockRegistry.get(type(block))
            except ValueError:
                return f"diffusers has not registered {type(block).__name__} for its caches"
    return None
