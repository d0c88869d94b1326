"""DBCache: while the first blocks' residual hardly changes, that of the others is reused.

From the package cache-dit (https://github.com/vipshop/cache-dit): a first block cache with a
warm-up, and a limit to how long it reuses. With its TaylorSeer calibrator the residual is forecast
along a line instead (Liu et al., ICCV 2025, https://arxiv.org/abs/2503.06923).

One first block decides and none at the end corrects (F1B0, the package's fastest form), after four
steps of warm-up; the sweep is over the threshold and the longest run of reuse. The package wants to
be told whether conditional and unconditional calls are separate; that is seen at the first step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from adaptive_diffusion.apps.bench.rivals.base import Rival, Work, missing_package
from adaptive_diffusion.apps.bench.rivals.diffusers_cache import blocks_of, cached_models
from adaptive_diffusion.apps.bench.rivals.meter import Meter, metered

__all__ = ["DBCache"]

_WARM_UP = 4


class DBCache(Rival):
    """Reuses while the relative change of the first block's residual is below `threshold`.

    Attributes:
        longest: how many steps in a row may reuse; None for any number.
        taylor: whether the residual is forecast.
    """

    def __init__(self, threshold: float, longest: int | None, taylor: bool = False) -> None:
        self.threshold = threshold
        self.longest = longest
        self.taylor = taylor
        self.family = "DBCache + TaylorSeer" if taylor else "DBCache"
        limit = "any number" if longest is None else f"at most {longest}"
        self.name = f"{self.family}, threshold {threshold:g}, {limit}"

    def reason_against(self, pipe: Any) -> str | None:
        if reason := missing_package("cache_dit", "cache-dit"):
            return reason
        from cache_dit.caching import BlockAdapterRegister

        if not BlockAdapterRegister.is_supported(pipe) or not hasattr(pipe, "transformer"):
            return f"cache-dit has no adapter for {type(pipe).__name__}"
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        import cache_dit

        config = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1,
            Bn_compute_blocks=0,
            max_warmup_steps=_WARM_UP,
            max_continuous_cached_steps=-1 if self.longest is None else self.longest,
            residual_diff_threshold=self.threshold,
            enable_separate_cfg=True,
        )
        calibrator = cache_dit.TaylorSeerCalibratorConfig(
            taylorseer_order=1,
            # the package fails on models whose last block drops the text, such as SD3's
            enable_encoder_calibrator=not any(
                getattr(block, "context_pre_only", False)
                for model in cached_models(pipe)
                for block in blocks_of(model)
            ),
        )
        with metered(pipe, _Calls(pipe)) as work, _quiet(), _class_as_found(type(pipe)):
            try:
                cache_dit.enable_cache(
                    pipe,
                    cache_config=config,
                    calibrator_config=calibrator if self.taylor else None,
                )
                yield work
            finally:
                cache_dit.disable_cache(pipe)


class _Calls(Meter):
    """Takes the package's notion of separate calls back if a model's first step has one call."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self._unseen = cached_models(pipe)

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        for model in [model for model in self._unseen if self.calls[id(model)]]:
            self._unseen.remove(model)
            if self.calls[id(model)] == 1:
                _expect_one_call(model)
        return super().step(scheduler, step, args, kwargs)


def _expect_one_call(model: Any) -> None:
    """What is noted of a first call is the same under both notions."""
    for name in model._context_names:
        model._context_manager.get_context(name).cache_config.enable_separate_cfg = False


@contextmanager
def _class_as_found(cls: Any) -> Iterator[None]:
    """The package replaces the pipeline class's call."""
    found = dict(vars(cls))
    try:
        yield
    finally:
        for name in vars(cls).keys() - found.keys():
            delattr(cls, name)
        if "__call__" in found:
            cls.__call__ = found["__call__"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the package has to say about each of its steps from the terminal."""
    handlers = logging.getLogger("CACHE_DIT").handlers
    levels = [handler.level for handler in handlers]
    try:
        for handler in handlers:
            handler.setLevel(logging.ERROR)
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
