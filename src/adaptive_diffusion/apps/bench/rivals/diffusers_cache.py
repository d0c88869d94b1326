"""What diffusers' own caches have in common: how they are turned on, and which call is which.

A cache keeps what it reuses by the name of a call, so that conditional and unconditional calls do
not get each other's. Here a call is named by its place in the step, which comes to the same as the
names that some pipelines give, and serves those that give none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from adaptive_diffusion.adapters.diffusers.components import denoisers, is_side_network
from adaptive_diffusion.apps.bench.rivals.base import Rival
from adaptive_diffusion.apps.bench.rivals.meter import Meter

__all__ = ["DiffusersCache", "NamedCalls", "blocks_of", "cached_models", "call_name", "turned_on"]


def cached_models(pipe: Any) -> list[Any]:
    """The denoisers that a cache is turned on for."""
    return [model for model in denoisers(pipe) if not is_side_network(model)]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks that diffusers' caches know, in their order."""
    from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS

    lists = [
        part
        for name, part in model.named_children()
        if name in _ALL_TRANSFORMER_BLOCK_IDENTIFIERS and isinstance(part, nn.ModuleList)
    ]
    return [block for part in lists for block in part]


def call_name(position: int) -> str:
    """What the `position`-th denoiser call of a step is called."""
    return f"call {position}"


class NamedCalls(Meter):
    """Tells the caches which call of the step it is."""

    def run(self, module: Any, position: int, call: Callable[[], Any]) -> Any:
        if is_side_network(module):
            return call()
        with module.cache_context(call_name(position)):
            return call()


class DiffusersCache(Rival):
    """A cache that a model's `enable_cache` takes.

    Attributes:
        settings: the name of diffusers' class for its settings, which older versions lack.
    """

    settings: str

    def reason_against(self, pipe: Any) -> str | None:
        import diffusers

        if not hasattr(diffusers, self.settings):
            return f"this diffusers has no {self.settings}: pip install --upgrade diffusers"
        from diffusers.models.cache_utils import CacheMixin

        models = cached_models(pipe)
        for model in models:
            if not isinstance(model, CacheMixin):
                return f"{type(model).__name__} has no enable_cache"
        return None if models else f"{type(pipe).__name__} has no denoiser"


@contextmanager
def turned_on(pipe: Any, config: Callable[[nn.Module], Any]) -> Iterator[None]:
    """With a cache in each of the pipeline's denoisers."""
    models = cached_models(pipe)
    try:
        for model in models:
            model.enable_cache(config(model))
        yield
    finally:
        for model in models:
            if model.is_cache_enabled:
                model.disable_cache()
