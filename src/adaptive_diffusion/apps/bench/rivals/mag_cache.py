"""MagCache: the blocks' residual is reused while its magnitude is known to change little.

Ma et al., "MagCache: Fast Video Generation with Magnitude-Aware Cache", NeurIPS 2025
(https://arxiv.org/abs/2506.09045), as diffusers has it. How the magnitude changes from step to step
is measured once for a model, a solver and a number of steps: the first call is preceded by a full
run in calibration mode with the same arguments. That run is not counted as work; it does take
time, so a first call is not one to be timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from adaptive_diffusion.adapters.diffusers.components import is_side_network
from adaptive_diffusion.adapters.diffusers.interception import same_named_subclass
from adaptive_diffusion.apps.bench.rivals.base import Work
from adaptive_diffusion.apps.bench.rivals.diffusers_cache import (
    DiffusersCache,
    NamedCalls,
    blocks_of,
    cached_models,
    call_name,
    turned_on,
)
from adaptive_diffusion.apps.bench.rivals.first_block_cache import reason_against_blocks
from adaptive_diffusion.apps.bench.rivals.meter import metered

__all__ = ["MagCache"]

_ENDLESS = 10**6  # steps of a calibration that never counts as complete: at its end, it prints
_Loop = tuple[str, int]  # the scheduler's class, and the number of steps
_ratios: WeakKeyDictionary[nn.Module, dict[_Loop, list[float]]] = WeakKeyDictionary()


class MagCache(DiffusersCache):
    """Reuses while the accumulated error of the magnitude is below `threshold`."""

    family = "MagCache"
    settings = "MagCacheConfig"

    def __init__(self, threshold: float, longest: int) -> None:
        self.threshold = threshold
        self.longest = longest
        self.name = f"MagCache, threshold {threshold:g}, at most {longest}"

    def reason_against(self, pipe: Any) -> str | None:
        return super().reason_against(pipe) or reason_against_blocks(pipe)

    def _config(self, model: nn.Module, loop: _Loop) -> Any:
        from diffusers import MagCacheConfig

        ratios = _ratios[model][loop]
        return MagCacheConfig(
            threshold=self.threshold,
            max_skip_steps=self.longest,
            num_inference_steps=len(ratios),
            mag_ratios=ratios,
        )

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        calls = _Calls()
        kind = type(pipe)
        loop = (type(pipe.scheduler).__name__, steps)

        def call(_: Any, *args: Any, **kwargs: Any) -> Any:
            if not all(loop in _ratios.get(model, {}) for model in cached_models(pipe)):
                _calibrate(pipe, kind.__call__, args, kwargs)
                for model, measured in calls.measured.items():
                    _ratios.setdefault(model, {})[loop] = measured
                calls.restart()
            with turned_on(pipe, partial(self._config, loop=loop)):
                return kind.__call__(pipe, *args, **kwargs)

        with metered(pipe, calls) as work:
            pipe.__class__ = same_named_subclass(kind, call)
            try:
                yield work
            finally:
                pipe.__class__ = kind


class _Calls(NamedCalls):
    """Reads what a calibration has measured; the pipeline resets it at the end of its call."""

    def __init__(self) -> None:
        super().__init__()
        self.measured: dict[nn.Module, list[float]] = {}

    def run(self, module: Any, position: int, call: Callable[[], Any]) -> Any:
        from diffusers.hooks.mag_cache import _MAG_CACHE_LEADER_BLOCK_HOOK

        answer = super().run(module, position, call)
        if position == 0 and not is_side_network(module):
            first: Any = blocks_of(module)[0]
            with module.cache_context(call_name(position)):
                hook = first._diffusers_hook.get_hook(_MAG_CACHE_LEADER_BLOCK_HOOK)
                self.measured[module] = list(hook.state_manager.get_state().calibration_ratios)
        return answer


def _calibrate(pipe: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Makes the picture in full, with the same noise as it will be made again."""
    from diffusers import MagCacheConfig

    def calibrating(model: nn.Module) -> Any:
        return MagCacheConfig(calibrate=True, num_inference_steps=_ENDLESS)

    with torch.random.fork_rng(), turned_on(pipe, calibrating):
        call(pipe, *args, **kwargs | {"generator": _copies(kwargs.get("generator"))})


def _copies(generators: Any) -> Any:
    if isinstance(generators, list | tuple):
        return [_copies(generator) for generator in generators]
    return None if generators is None else generators.clone_state()
