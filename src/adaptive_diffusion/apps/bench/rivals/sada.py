"""SADA: a step is skipped where the trajectory is stable, later ones at fixed intervals.

Jiang et al., "SADA: Stability-guided Adaptive Diffusion Acceleration", ICML 2025
(https://arxiv.org/abs/2507.17135). There is no package; this is its step skipping, written from
what is published of its criterion, its two estimates and its settings. Its token pruning at
unstable steps is left out.

With the gradient :math:`y = dx/dt` of the sampling ODE:

- **Next state** (step-wise pruning, a third-order Adams-Moulton estimate):
  :math:`\\hat x_{t-1} = x_t - \\tfrac56 \\Delta t\\,y_t - \\tfrac56 \\Delta t\\,y_{t+1}
  + \\tfrac23 \\Delta t\\,y_{t+2}`.
- **Stability criterion**: :math:`(x_{t-1} - \\hat x_{t-1}) \\cdot \\Delta^{(2)} y_t < 0`, with
  :math:`x_{t-1}` from the solver; if it holds, the next step is skipped: the solver gets the clean
  sample that the last noise predicts for :math:`\\hat x_{t-1}`.
- **Multistep-wise pruning**: from about the middle on, every `interval`-th step is computed, and
  the clean sample of those between is the Lagrange polynomial through the last ones that were
  noted at that interval.

The authors' settings for 50 steps, as shares of the run: nothing is skipped in the first 20 % and
the last 4 %, the second phase begins at 48 %, its interval is 4, the polynomial has 4 terms, and no
more than 4 steps are skipped in a row. **The sweep varies the interval, with it the longest run of
skips, and the two beginnings.** Its polynomials have 2 terms: at intervals of 4 and more that came
closer to the full run than 4 terms, on three prompts of either miniature that draws emoji. The
authors' own setting is in it too.

Where the description leaves something open, what favours the method was chosen:

- Time is the number of the step, as in the authors' settings, and the gradient is taken from the
  angle :math:`\\arctan(\\sigma/\\alpha)` of the level (of the level itself for flow matching), by
  central differences. Solvers that keep their samples in other scales are brought to that one.
- The step that begins the second phase is always computed, and polynomials go through computed
  steps alone.
- The criterion is the mean of the elementwise product, guided outputs included.
- A skipped step leaves behind its gradient as if it had been computed, so that the next may be
  skipped as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers.scheduler_step import noise_schedule
from adaptive_diffusion.apps.bench.rivals.base import Rival, Work
from adaptive_diffusion.apps.bench.rivals.meter import metered
from adaptive_diffusion.apps.bench.rivals.skipping import Rule, Skipping, Step, scheduler_at_work

__all__ = ["Sada"]

_LAST = 0.04  # share of the run that is computed at its end


class Sada(Rival):
    """Skips up to `interval` steps in a row, then computes every `interval`-th.

    Attributes:
        terms: of the polynomial.
        start: share of the run after which steps may be skipped.
        multistep: share of the run after which steps are computed at the fixed interval.
    """

    family = "SADA"

    def __init__(self, interval: int, terms: int, start: float, multistep: float) -> None:
        self.interval = interval
        self.terms = terms
        self.start = start
        self.multistep = multistep
        beginnings = f"from {start:.0%} and {multistep:.0%}"
        self.name = f"SADA, interval {interval}, {terms} terms, {beginnings}"

    def reason_against(self, pipe: Any) -> str | None:
        scheduler = scheduler_at_work(pipe)
        name = type(scheduler).__name__
        if getattr(scheduler, "order", 1) != 1:
            return f"SADA needs one evaluation per step, and {name} makes more"
        if not _levels(scheduler):
            return f"SADA needs the noise levels, and those of {name} are not known"
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, Skipping(self._rule)) as work:
            yield work

    def _rule(self, scheduler: Any) -> _Sada | None:
        levels = _levels(scheduler)
        return _Sada(self, levels) if levels else None


@dataclass(frozen=True)
class _Level:
    """A sample is scale * (clean * x0 + noise * epsilon), with clean and noise depending on time.

    Attributes:
        clean_rate: how clean changes with time.
        noise_rate: how noise changes with time.
        clean_from: what x0 takes of the sample, and of the model's output.
    """

    clean: float
    noise: float
    clean_rate: float
    noise_rate: float
    time: float
    scale: float
    clean_from: tuple[float, float]


def _levels(scheduler: Any) -> list[_Level]:
    """Those of all timesteps, from what the predicted clean sample is made of; else none."""
    of_kind = _OF_KIND.get(scheduler.config.get("prediction_type", "flow_prediction"))
    known = noise_schedule(scheduler).clean
    return [of_kind(a, b) for a, b in known] if known and of_kind else []


def _of_epsilon(a: float, b: float) -> _Level:
    return _on_the_circle(math.atan(-b), math.hypot(1, b) / a, (a, b))


def _of_velocity(a: float, b: float) -> _Level:
    return _on_the_circle(math.asin(-b), math.sqrt(1 - b * b) / a, (a, b))


def _on_the_circle(angle: float, scale: float, clean_from: tuple[float, float]) -> _Level:
    cosine, sine = math.cos(angle), math.sin(angle)
    return _Level(cosine, sine, -sine, cosine, angle, scale, clean_from)


def _of_flow(a: float, b: float) -> _Level:
    return _Level(1 + b, -b, -1.0, 1.0, -b, 1.0, (a, b))


_OF_KIND: dict[str, Callable[[float, float], _Level]] = {
    "epsilon": _of_epsilon,
    "v_prediction": _of_velocity,
    "flow_prediction": _of_flow,
}


class _Sada(Rule):
    """One generation under SADA."""

    def __init__(self, rival: Sada, levels: list[_Level]) -> None:
        self._rival = rival
        self._levels = levels
        self._gradients: list[Tensor] = []  # of the last three steps, times the step
        self._nodes: dict[int, Tensor] = {}  # clean samples, noted at the interval
        self._in_a_row = 0
        self._next: Tensor | None = None  # the clean sample of the step to come if it is skipped

    def forecast(self, step: Step) -> Tensor:
        assert self._next is not None
        of_sample, of_output = self._levels[step.index].clean_from
        return ((self._next - of_sample * step.sample.float()) / of_output).to(step.sample.dtype)

    def skips_next(self, step: Step, following: Tensor) -> bool:
        of_sample, of_output = self._levels[step.index].clean_from
        clean = self._next
        if clean is None:
            clean = of_sample * step.sample.float() + of_output * step.output.float()
        self._next = self._look_ahead(step.index, step.sample, clean, following)
        self._in_a_row = 0 if self._next is None else self._in_a_row + 1
        return self._next is not None

    def _look_ahead(
        self, i: int, sample: Tensor, clean: Tensor, following: Tensor
    ) -> Tensor | None:
        """The clean sample for step i + 1, or None if it must be computed."""
        levels = self._levels
        level, after = levels[i], levels[min(i + 1, len(levels) - 1)]
        x = sample.float() / level.scale
        noise = (x - level.clean * clean) / level.noise
        gradient = level.clean_rate * clean + level.noise_rate * noise
        self._gradients = [*self._gradients[-2:], gradient * _time_step(levels, i)]
        rival, steps = self._rival, len(levels)
        multistep = round(rival.multistep * steps)
        if (i - multistep) % rival.interval == 0 and self._in_a_row == 0:
            self._nodes[i] = clean
            self._nodes = dict(list(self._nodes.items())[-rival.terms :])

        in_range = round(rival.start * steps) <= i and i + 1 < steps - math.ceil(_LAST * steps)
        if not in_range or self._in_a_row >= rival.interval or len(self._gradients) < 3:
            return None
        if i + 1 >= multistep:
            is_due = (i + 1 - multistep) % rival.interval == 0
            return None if is_due else _lagrange(self._nodes, i + 1)
        older, old, now = self._gradients
        estimate = x + 5 / 6 * now + 5 / 6 * old - 2 / 3 * older
        # the gradients are those of descending time, which turns the criterion's sign around
        stability = (following.float() / after.scale - estimate) * (now - 2 * old + older)
        if stability.mean() <= 0:
            return None
        return (estimate - after.noise * noise) / after.clean


def _time_step(levels: list[_Level], i: int) -> float:
    first, last = max(i - 1, 0), min(i + 1, len(levels) - 1)
    return (levels[last].time - levels[first].time) / max(1, last - first)


def _lagrange(nodes: dict[int, Tensor], step: int) -> Tensor:
    """The polynomial through the nodes, at `step`."""
    weights = [
        math.prod((step - other) / (node - other) for other in nodes if other != node)
        for node in nodes
    ]
    return torch.stack([w * x for w, x in zip(weights, nodes.values(), strict=True)]).sum(0)
