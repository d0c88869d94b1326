"""Pyramid Attention Broadcast: attention runs at every n-th step, its output is kept in between.

Zhao et al., "Real-Time Video Generation with Pyramid Attention Broadcast", ICLR 2025
(https://arxiv.org/abs/2408.12588), as diffusers has it. Cross-attention is kept twice as long as
self-attention, as the paper's pyramid has it, and both only between the timesteps 100 and 800,
diffusers' default. Nothing but attention is saved, so it is bounded by attention's share.

diffusers keeps one state per layer, which mixes conditional and unconditional calls up where they
are separate; here each call of a step has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from adaptive_diffusion.adapters.diffusers.components import schedulers
from adaptive_diffusion.apps.bench.rivals.base import Work
from adaptive_diffusion.apps.bench.rivals.diffusers_cache import (
    DiffusersCache,
    NamedCalls,
    turned_on,
)
from adaptive_diffusion.apps.bench.rivals.meter import metered

__all__ = ["OwnStates", "PyramidAttention"]


class PyramidAttention(DiffusersCache):
    """Computes self-attention every `interval` steps, cross-attention half as often."""

    family = "Pyramid Attention Broadcast"
    settings = "PyramidAttentionBroadcastConfig"

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.name = f"Pyramid Attention Broadcast, every {interval}"

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        from diffusers import PyramidAttentionBroadcastConfig

        calls = OwnStates(schedulers(pipe)[0])
        config = PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=self.interval,
            temporal_attention_block_skip_range=self.interval,
            cross_attention_block_skip_range=2 * self.interval,
            current_timestep_callback=calls.timestep,
        )
        with metered(pipe, calls) as work, turned_on(pipe, lambda _: config):
            yield work


class OwnStates(NamedCalls):
    """Gives the caches' layers a state for each call of the step, and the timestep."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._states: dict[tuple[int, int], Any] = {}

    def timestep(self) -> float:
        """Of the present step."""
        start = getattr(self._scheduler, "begin_index", None) or 0
        return float(self._scheduler.timesteps[start + len(self.work.per_step)])

    def run(self, module: Any, position: int, call: Callable[[], Any]) -> Any:
        for hook in _hooks_with_state(module):
            fresh = type(hook.state)()
            hook.state = self._states.setdefault((id(hook), position), fresh)
        return super().run(module, position, call)


def _hooks_with_state(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        registry: Any = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            yield from (hook for hook in registry.hooks.values() if hasattr(hook, "state"))
