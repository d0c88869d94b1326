"""LazyCache: EasyCache's rule where the sampler asks its model.

ComfyUI's second cache (`comfy_extras/nodes_easycache.py`); `change_rate` has the rule and its
sources. x is the sampler's sample, and y is the clean sample that the guided output predicts for
it. ComfyUI's samplers keep :math:`x_0 + \\sigma\\varepsilon`, and for flow matching
:math:`(1 - \\sigma) x_0 + \\sigma\\varepsilon`. Samples that the scheduler keeps in another scale
are brought to this one.

In its favour the decision looks at all numbers of a sample. ComfyUI looks at every eighth row and
column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from adaptive_diffusion.adapters.diffusers.scheduler_step import noise_schedule
from adaptive_diffusion.apps.bench.rivals.base import Rival, Work
from adaptive_diffusion.apps.bench.rivals.change_rate import ChangeRate, is_within
from adaptive_diffusion.apps.bench.rivals.meter import metered
from adaptive_diffusion.apps.bench.rivals.skipping import Rule, Skipping, Step, scheduler_at_work

__all__ = ["LazyCache"]

_MEASURING = 1  # step

# from the clean sample's A and B (A x + B output), what the scheduler's sample is multiplied with
_UNSCALED: dict[str, Callable[[float, float], float]] = {
    "epsilon": lambda a, b: a,
    "v_prediction": lambda a, b: a / (1 - b * b),
    "flow_prediction": lambda a, b: 1.0,
}


class LazyCache(Rival):
    """Skips while the accumulated change is below `threshold` (ComfyUI: 0.2)."""

    family = "LazyCache"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.name = f"LazyCache, threshold {threshold:g}"

    def reason_against(self, pipe: Any) -> str | None:
        scheduler = scheduler_at_work(pipe)
        if self._rule(scheduler) is None:
            name = type(scheduler).__name__
            return f"LazyCache needs the noise levels, and those of {name} are not known"
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, Skipping(self._rule)) as work:
            yield work

    def _rule(self, scheduler: Any) -> _LazyCache | None:
        clean = noise_schedule(scheduler).clean
        unscaled = _UNSCALED.get(scheduler.config.get("prediction_type", "flow_prediction"))
        return _LazyCache(self.threshold, clean, unscaled) if clean and unscaled else None


class _LazyCache(Rule):
    """One generation under LazyCache."""

    def __init__(
        self,
        threshold: float,
        clean: tuple[tuple[float, float], ...],
        unscaled: Callable[[float, float], float],
    ) -> None:
        self._rate = ChangeRate(threshold)
        self._clean = clean
        self._scales = [unscaled(a, b) for a, b in clean]

    def forecast(self, step: Step) -> Tensor:
        of_sample, of_output = self._clean[step.index]
        clean = self._rate.reuse(self._entering(step.index, step.sample))
        return ((clean - of_sample * step.sample.float()) / of_output).to(step.output.dtype)

    def skips_next(self, step: Step, following: Tensor) -> bool:
        if not step.is_skipped:
            of_sample, of_output = self._clean[step.index]
            clean = of_sample * step.sample.float() + of_output * step.output.float()
            self._rate.learn(self._entering(step.index, step.sample), clean)
        i, steps = step.index + 1, len(self._clean)
        if not is_within(i, steps, _MEASURING):
            return False
        return self._rate.skips(self._entering(i, following))

    def _entering(self, index: int, sample: Tensor) -> Tensor:
        """The sample in the sampler's scale."""
        return self._scales[index] * sample.float()
