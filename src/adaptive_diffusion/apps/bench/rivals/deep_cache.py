"""DeepCache: a UNet's deep blocks run at every n-th step, the shallow ones at each.

Ma, Fang and Wang, "DeepCache: Accelerating Diffusion Models for Free", CVPR 2024
(https://arxiv.org/abs/2312.00858), from its package DeepCache. Uniform interval; the outermost
skip branch (0), which skips most and which the package's examples use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adaptive_diffusion.apps.bench.rivals.base import Rival, Work, missing_package
from adaptive_diffusion.apps.bench.rivals.meter import Meter, metered

__all__ = ["DeepCache"]

_OVER_TIME = ("temp_convs", "temp_attentions", "motion_modules")


class DeepCache(Rival):
    """Runs the deep blocks at every `interval`-th step."""

    family = "DeepCache"

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.name = f"DeepCache, every {interval}"

    def reason_against(self, pipe: Any) -> str | None:
        unet = getattr(pipe, "unet", None)
        parts = [*getattr(unet, "down_blocks", ()), *getattr(unet, "up_blocks", ())]
        if not parts or not all(hasattr(part, "resnets") for part in parts):
            return f"DeepCache takes UNets alone, and {type(pipe).__name__} has none"
        if any(hasattr(part, layer) for part in parts for layer in _OVER_TIME):
            return f"DeepCache knows nothing of {type(unet).__name__}'s layers over time"
        return missing_package("DeepCache", "DeepCache")

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        from DeepCache import DeepCacheSDHelper

        with metered(pipe, Meter()) as work:
            # the helper reads the timestep from the second positional argument
            order = pipe.unet.register_forward_pre_hook(_timestep_second, with_kwargs=True)
            helper = DeepCacheSDHelper(pipe=pipe)
            helper.set_params(cache_interval=self.interval, cache_branch_id=0)
            helper.enable()
            try:
                yield work
            finally:
                helper.disable()
                order.remove()


def _timestep_second(unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = [name for name in ("sample", "timestep")[len(args) :] if name in kwargs]
    return (*args, *(kwargs.pop(name) for name in named)), kwargs
