"""One generation in which a rule leaves out whole steps: what all such rivals have in common.

On a skipped step every denoiser call gets its last answer again, and the solver gets what the rule
says in place of the pipeline's output. Whether a step is skipped is known when the one before it
has been taken.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adaptive_diffusion.adapters.diffusers.components import schedulers
from adaptive_diffusion.adapters.diffusers.memory import Memory
from adaptive_diffusion.adapters.diffusers.scheduler_step import (
    SchedulerStep,
    position_of,
    timesteps_of,
)
from adaptive_diffusion.apps.bench.rivals.meter import Meter
from adaptive_diffusion.trajectory.probe import number

__all__ = ["Rule", "Skipping", "Step", "scheduler_at_work"]


def scheduler_at_work(pipe: Any) -> Any:
    """A copy of the pipeline's scheduler that has timesteps, to see whether a rule fits it."""
    scheduler = copy.deepcopy(schedulers(pipe)[0])
    shift = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
    scheduler.set_timesteps(10, **shift)
    return scheduler


@dataclass(frozen=True)
class Step:
    """One step of the solver.

    Attributes:
        index: where it stands in the scheduler's timesteps.
        sample: what it begins with.
        output: what the pipeline made of the denoiser's answers; on a skipped step, of the last
            ones.
        is_skipped: whether those answers were repeated.
    """

    index: int
    sample: Tensor
    output: Tensor
    is_skipped: bool


class Rule(ABC):
    """What one method does in one generation; it may remember."""

    @abstractmethod
    def forecast(self, step: Step) -> Tensor:
        """The output for a skipped step, in the shape of its sample."""

    @abstractmethod
    def skips_next(self, step: Step, following: Tensor) -> bool:
        """Whether the next step is skipped, which begins with the sample `following`."""


class Skipping(Meter):
    """Stands in for the calls and steps of a generation, by a rule.

    Args:
        rule: makes the rule for a loop, once the scheduler has its timesteps; None if it can't be
            followed there, and nothing is skipped.
    """

    def __init__(self, rule: Callable[[Any], Rule | None]) -> None:
        super().__init__()
        self._make_rule = rule
        self._begin()

    def _begin(self) -> None:
        self._rule: Rule | None = None
        self._has_begun = False
        self._answers: dict[tuple[int, int], Any] = {}  # of each denoiser's n-th call in a step
        self._skips = False
        self._index = -1

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        self._begin()
        return super().set_timesteps(scheduler, set_timesteps, args, kwargs)

    def run(self, module: nn.Module, position: int, call: Callable[[], Any]) -> Any:
        key = (id(module), position)
        if not self._skips or key not in self._answers:
            self._answers[key] = call()
        return self._answers[key]

    def solve(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not self._has_begun:
            self._has_begun, self._rule = True, self._make_rule(scheduler)
        this = SchedulerStep(scheduler, step, Memory(scheduler, step), args, kwargs)
        output, sample, rule = this.output, this.sample, self._rule
        if rule is None or not this.moves_a_sample or output.shape != sample.shape:
            return step(scheduler, *args, **kwargs)
        self._index = self._index_of(this.timestep, scheduler)
        now = Step(self._index, sample, output, self._skips)
        following = this.run(rule.forecast(now) if self._skips else output, sample)
        self._skips = rule.skips_next(now, following)
        return this.returned

    def _index_of(self, timestep: Any, scheduler: Any) -> int:
        """The next index, unless the pipeline has gone elsewhere: some timesteps stand twice."""
        timesteps, following = timesteps_of(scheduler), self._index + 1
        if following < len(timesteps) and timesteps[following] == number(timestep):
            return following
        return position_of(timestep, scheduler)
