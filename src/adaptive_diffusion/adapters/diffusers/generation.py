"""One call of an accelerated pipeline.

An iteration of its loop is the denoiser call or calls up to the scheduler's `step`; the first
denoiser call after a step opens the next iteration. `set_timesteps` begins a new loop, and so does
a step of samples of another shape.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.diffusers.batch import (
    Layout,
    call_on_rows,
    layout_of,
    map_tensors,
    shapes,
)
from adaptive_diffusion.adapters.diffusers.components import (
    brings_own_attention,
    is_side_network,
)
from adaptive_diffusion.adapters.diffusers.scheduler_step import (
    SchedulerStep,
    noise_schedule,
    position_of,
)
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory import Report, Trajectory

__all__ = ["Generation", "StepCallback"]

StepCallback = Callable[[list[list[bool]]], None]


@dataclass
class _Loop:
    """One sampling loop of the generation: its trajectory and what its iterations have seen."""

    branches: dict[Any, Any] = field(default_factory=dict)  # the last outputs, by branch
    calls: Counter[int] = field(default_factory=Counter)  # this iteration's, by module
    steps: Counter[int] = field(default_factory=Counter)  # this iteration's, by scheduler
    inputs: dict[Any, Any] = field(default_factory=dict)  # this iteration's, of branches not seen
    shape: torch.Size | None = None  # of the sample that the scheduler steps
    plan: list[bool] | None = None  # unknown until the first step has shown the samples
    layout: Layout = field(default_factory=lambda: Layout(1))  # which rows are whose
    spared: bool = False  # this iteration: whether a denoiser call was, at least in part
    trajectory: Trajectory | None = None

    def begin_iteration(self) -> None:
        assert self.trajectory is not None
        self.trajectory.close()
        self.calls.clear()
        self.steps.clear()
        self.inputs.clear()
        self.spared = False
        self.plan = self.trajectory.open()


class Generation:
    """Leads one pipeline call's denoiser calls and scheduler steps through trajectories."""

    def __init__(
        self, policy: Policy, modules: list[nn.Module], on_step: StepCallback | None
    ) -> None:
        self._policy = policy
        self._side_networks = {id(module) for module in modules if is_side_network(module)}
        self._on_step = on_step
        self._notes: list[str] = []
        self._mask: list[list[bool]] = []
        self._longest_loop = 0
        self._loop: _Loop | None = None
        self._refused = False
        self._first_call: float | None = None
        self._last_step = 0.0

    def call_denoiser(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """The denoiser's output: computed, computed for some samples, or the last one again."""
        if self._refused:
            return call(*args, **kwargs)
        loop = self._iteration()
        key = (id(module), loop.calls[id(module)], shapes(args, kwargs))
        loop.calls[id(module)] += 1
        if key not in loop.branches:
            loop.inputs[key] = module, args, kwargs
        side = id(module) in self._side_networks
        if loop.plan is None or all(loop.plan):
            output = call(*args, **kwargs)
        elif key not in loop.branches:
            output = call(*args, **kwargs)
            self._accept_unplanned(loop)
        else:
            output = loop.branches[key]
            loop.spared = loop.spared or not side
            if any(loop.plan):
                frames = loop.layout.frames
                output = call_on_rows(call, args, kwargs, loop.plan, frames, output)
        loop.branches[key] = map_tensors(_blank if side else _copy, output)
        return output

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The scheduler's step, with the skipped samples' outputs forecast."""
        loop = self._loop
        solver = SchedulerStep(scheduler, step, args, kwargs)
        if not solver.moves_a_sample:
            name = type(scheduler).__name__
            self._refuse(f"the step of {name} takes no model output for each row of a sample")
        if loop is None or not loop.calls or self._refused:
            return step(scheduler, *args, **kwargs)
        if not loop.steps:
            loop = self._loop_of(loop, solver.sample)
        if loop.trajectory is None:
            loop.trajectory = self._begin_trajectory(loop, scheduler, solver)
        key = (id(scheduler), loop.steps[id(scheduler)])
        loop.steps[id(scheduler)] += 1
        loop.trajectory.advance(key, solver.output, solver.sample, solver)
        if self._on_step is not None and loop.steps.total() == 1:
            self._on_step(_side_by_side(self._mask, loop.trajectory.mask))
        self._last_step = time.perf_counter()
        returned, solver.returned = solver.returned, None
        return returned

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        """Begins a new loop, if one has been running."""
        set_timesteps(scheduler, *args, **kwargs)
        if self._loop is not None and self._loop.trajectory is not None:
            self._end_loop()

    def finish(self) -> Report:
        """Ends the generation and says what it did."""
        self._end_loop()
        if 0 < self._longest_loop < self._policy.fewest_steps:
            self._note(
                f"nothing was skipped: the policy computes all of {self._longest_loop} steps, "
                f"and can skip some of {self._policy.fewest_steps} or more"
            )
        seconds = self._last_step - (self._first_call or self._last_step)
        return Report(self._policy, self._mask, seconds, self._notes)

    def _iteration(self) -> _Loop:
        if self._first_call is None:
            self._first_call = time.perf_counter()
        if self._loop is None:
            self._loop = _Loop()
        if self._loop.steps:
            self._loop.begin_iteration()
        return self._loop

    def _loop_of(self, loop: _Loop, sample: Tensor) -> _Loop:
        """The loop that the iteration belongs to: a new one, if the sample has another shape."""
        if loop.trajectory is not None and loop.shape != sample.shape:
            loop.trajectory.cancel()
            self._end_loop()
            branches = {key: loop.branches[key] for key in loop.inputs}
            self._loop = loop = _Loop(branches, loop.calls, inputs=loop.inputs)
        loop.shape = sample.shape
        return loop

    def _begin_trajectory(self, loop: _Loop, scheduler: Any, solver: SchedulerStep) -> Trajectory:
        schedule = noise_schedule(scheduler).tail(position_of(solver.timestep, scheduler))
        loop.layout = self._layout(loop, solver.sample)
        loop.inputs.clear()
        trajectory = Trajectory(self._policy, schedule, loop.layout.samples)
        trajectory.open()
        return trajectory

    def _layout(self, loop: _Loop, sample: Tensor) -> Layout:
        calls = [(args, kwargs) for _, args, kwargs in loop.inputs.values()]
        layout = layout_of(calls, sample)
        modules = [module for module, _, _ in loop.inputs.values()]
        if layout.samples > 1 and any(map(brings_own_attention, modules)):
            reason = "the denoiser has attention of its own, which may look across samples"
            layout = Layout(1, reason=reason)
        if layout.reason is not None:
            self._note(f"the batch is decided as a whole: {layout.reason}")
        return layout

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _refuse(self, reason: str) -> None:
        if not self._refused:
            self._notes.append(f"nothing was skipped: {reason}")
        self._refused, self._loop = True, None

    def _accept_unplanned(self, loop: _Loop) -> None:
        """A branch without history was computed, though the plan was to skip.

        If it is the iteration's first, the step counts as computed. If others have been spared
        before it, their forecast stands.
        """
        assert loop.trajectory is not None
        if not loop.spared:
            loop.plan = loop.trajectory.compute_all()

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and loop.trajectory is not None:
            self._longest_loop = max(self._longest_loop, len(loop.trajectory.mask[0]))
            self._mask = _side_by_side(self._mask, loop.trajectory.mask)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _blank(tensor: Tensor) -> Tensor:
    """Zeros in the tensor's shape that take no memory: nobody reads them."""
    return torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


def _side_by_side(before: list[list[bool]], after: list[list[bool]]) -> list[list[bool]]:
    """Joins the masks of two loops; one decided as a whole counts for every sample."""
    if not before:
        return after
    samples = max(len(before), len(after))
    return [before[i % len(before)] + after[i % len(after)] for i in range(samples)]
