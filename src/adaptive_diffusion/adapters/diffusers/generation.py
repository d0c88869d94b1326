"""One call of an accelerated pipeline.

An iteration of its loop is the denoiser call or calls up to the scheduler's `step`; the first
denoiser call after a step opens the next iteration. `set_timesteps` begins a new loop, and so does
a step of samples of another shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.calls import Branch, Call, copied, is_patched, modules_of
from adaptive_diffusion.adapters.changes import Attributes
from adaptive_diffusion.adapters.containers import address_of, map_tensors, tensors
from adaptive_diffusion.adapters.diffusers.batch import Layout, call_on_rows, layout_of
from adaptive_diffusion.adapters.diffusers.components import name_of
from adaptive_diffusion.adapters.diffusers.loop import Loop
from adaptive_diffusion.adapters.diffusers.memory import Memory
from adaptive_diffusion.adapters.diffusers.roles import Roles
from adaptive_diffusion.adapters.diffusers.scheduler_step import (
    SchedulerStep,
    noise_schedule,
    position_of,
)
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory import Report, Trajectory
from adaptive_diffusion.trajectory.stream import Stream
from adaptive_diffusion.trajectory.trajectory import StreamMaker

__all__ = ["Generation", "LoopCheck", "StepCallback"]

StepCallback = Callable[[list[list[bool]]], None]
LoopCheck = Callable[[int], str]


class Generation:
    """Leads one pipeline call's denoiser calls and scheduler steps through trajectories.

    Args:
        pipeline: whose call it is.
        policy: decides which steps are computed.
        candidates: all parts of the pipeline that may denoise, and its ControlNets.
        on_step: told of every step.
        check_loop: given a loop's number of steps as it begins; what to note of it, or nothing.
        make_stream: makes what leads a loop's outputs and samples on.
    """

    def __init__(
        self,
        pipeline: Any,
        policy: Policy,
        candidates: Iterable[Any],
        on_step: StepCallback | None = None,
        check_loop: LoopCheck = lambda steps: "",
        make_stream: StreamMaker = Stream,
    ) -> None:
        self._pipeline = pipeline
        self._policy = policy
        self._roles = Roles(candidates)
        self._on_step = on_step
        self._check_loop = check_loop
        self._make_stream = make_stream
        self._called: dict[int, Any] = {}
        self._others: dict[str, str] = {}
        self._repeats: list[bool] = []
        self._notes: list[str] = []
        self._mask: list[list[bool]] = []
        self._longest_loop = 0
        self._loop: Loop | None = None
        self._refused = False
        self._unseen_steps = 0
        self._calls_elsewhere = 0
        self._first_call: float | None = None
        self._last_step = 0.0

    # Denoiser calls -----------------------------------------------------------------------------

    def call_denoiser(self, module: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The denoiser's output: computed, computed for some samples, or the last one again."""
        self._called[id(module)] = module
        if self._refused or self._roles.is_bystander(module):
            return run(*args, **kwargs)
        call = Call(module, run, args, kwargs)
        if self._first_call is None:
            self._first_call = time.perf_counter()
        if not self._roles.is_known(module):
            return self._call_unknown(call)
        loop = self._iteration()
        branch = loop.ask(call)
        if call.records_gradients():
            self._note("steps in grad mode were computed: gradients may pass through the denoiser")
            loop.restart()
        if loop.is_computed:
            answer = self._compute(call, branch)
        else:
            answer = call.give(self._stand_in(loop, call, branch))
            loop.spared.append((call, branch))
            if any(loop.plan or ()) and loop.attributes is not None:
                loop.attributes.note()
        if self._roles.is_side_network(module):
            loop.prepared |= set(map(address_of, tensors(answer)))
        return answer

    def _call_unknown(self, call: Call) -> Any:
        """A module is computed in the iteration in which it is found out whether it denoises."""
        if self._loop is None:
            self._loop = Loop()
        if not self._loop.is_computed and not self._loop.steps:
            self._loop.restart()
        output = self._run(call)
        call.answer = copied(output)
        self._loop.unknown.append(call)
        self._roles.flow.mark(output, id(call.module))
        return output

    def _compute(self, call: Call, branch: Branch) -> Any:
        output = self._run(call)
        self._remember(call, branch, output)
        return output

    def _remember(self, call: Call, branch: Branch, output: Any) -> None:
        """Of a ControlNet's outputs only the shapes are kept: where all skip, nobody reads them."""
        if self._roles.is_side_network(call.module):
            branch.output = map_tensors(_blank, output)
        else:
            branch.remember(output)

    def _run(self, call: Call) -> Any:
        with self._roles.flow.paused():
            return call.compute()

    def _stand_in(self, loop: Loop, call: Call, branch: Branch) -> Any:
        """The last output, with the samples computed that are to be."""
        assert loop.plan is not None
        if not any(loop.plan):
            if self._roles.is_side_network(call.module):
                return map_tensors(torch.empty_like, branch.output)
            return copied(branch.output)
        output = call_on_rows(
            call.run, call.args, call.kwargs, loop.plan, loop.layout.frames, branch.output
        )
        self._remember(call, branch, output)
        return output

    # Scheduler steps ----------------------------------------------------------------------------

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The scheduler's step, with the skipped samples' outputs forecast."""
        if self._refused:
            return step(scheduler, *args, **kwargs)
        if self._loop is None:
            self._unseen_steps += 1
            return step(scheduler, *args, **kwargs)
        loop = self._loop
        if id(scheduler) not in loop.memories:
            loop.memories[id(scheduler)] = Memory(scheduler, step)
        solver = SchedulerStep(scheduler, step, loop.memories[id(scheduler)], args, kwargs)
        reason = self._reason_against(scheduler, solver)
        if reason is not None:
            self._refuse(reason)
            return step(scheduler, *args, **kwargs)
        loop = self._settle(loop, solver)
        if loop.trajectory is None and not loop.asked:
            self._unseen_steps += 1
            return step(scheduler, *args, **kwargs)
        if not loop.steps:
            loop = self._loop_of(loop, solver.sample)
        if loop.trajectory is None:
            loop.trajectory = self._begin_trajectory(loop, solver)
        self._advance(loop, solver)
        returned, solver.returned = solver.returned, None
        return returned

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Begins a new loop, if one has been running."""
        result = set_timesteps(scheduler, *args, **kwargs)
        if self._loop is not None and self._loop.trajectory is not None:
            self._end_loop()
        return result

    def hear_elsewhere(self) -> None:
        """A module of this generation was called where it is not active."""
        self._calls_elsewhere += 1

    def _reason_against(self, scheduler: Any, solver: SchedulerStep) -> str | None:
        """Why the scheduler's steps can't be followed, or None."""
        name = type(scheduler).__name__
        if not solver.moves_a_sample:
            return f"the step of {name} takes no model output for each row of a sample"
        if getattr(scheduler, "timesteps", None) is None:
            return f"{name} has no timesteps, so that nothing is known of its loop"
        return None

    def _settle(self, loop: Loop, solver: SchedulerStep) -> Loop:
        """Finds out who denoises, and whether all of this iteration was seen."""
        unknown, loop.unknown = loop.unknown, []
        found = self._roles.judge(unknown, solver.output, solver.sample) if unknown else []
        if found and loop.steps:
            loop.begin_iteration()
        for call in found:
            loop.ask(call).remember(call.answer)
        if found:
            loop.restart()
        if loop.steps and not found and self._is_another_iteration(loop, solver):
            self._note("some steps were computed whose denoiser calls were not seen")
            loop.begin_iteration()
            loop.restart()
        return loop

    def _is_another_iteration(self, loop: Loop, solver: SchedulerStep) -> bool:
        """Whether a step with no denoiser call before it is no further stream of its iteration.

        It then goes on from where one of the iteration's steps has led.
        """
        sample = solver.sample
        return self._stream(loop, solver) not in loop.streams and any(
            sample.shape == result.shape and torch.equal(sample, result.to(sample.dtype))
            for result in loop.results
        )

    def _advance(self, loop: Loop, solver: SchedulerStep) -> None:
        assert loop.trajectory is not None
        if not loop.steps:
            self._heed_changes(loop, solver.output)
            self._look_again_at_rows(loop, solver.sample)
        key = self._stream(loop, solver)
        loop.streams.add(key)
        loop.steps[id(solver.scheduler)] += 1
        loop.results.append(loop.trajectory.advance(key, solver.output, solver.sample, solver))
        if self._on_step is not None and loop.steps.total() == 1:
            self._on_step(_side_by_side(self._mask, loop.trajectory.mask))
        loop.release()
        self._last_step = time.perf_counter()

    def _stream(self, loop: Loop, solver: SchedulerStep) -> tuple[int, int]:
        """Which of an iteration's steps comes next: a scheduler, and the number of its step."""
        return id(solver.scheduler), loop.steps[id(solver.scheduler)]

    def _heed_changes(self, loop: Loop, output: Tensor) -> None:
        """What shows of a change only when all calls of the iteration have been made."""
        assert loop.attributes is not None
        if loop.branches.keys() - loop.asked.keys():  # one is missing
            loop.turn(output)
        elif loop.is_computed and loop.has_changed_meanwhile():
            loop.restart()
        if loop.plan is None or any(loop.plan):  # a module was called, and may have changed itself
            loop.attributes.note()

    def _look_again_at_rows(self, loop: Loop, sample: Tensor) -> None:
        """Samples that were all alike at first may show later whose rows are whose."""
        if loop.layout.is_sure or not loop.is_computed:
            return
        layout = self._layout(loop, sample)
        if layout.samples == loop.layout.samples:
            loop.layout = layout

    # Loops --------------------------------------------------------------------------------------

    def _iteration(self) -> Loop:
        if self._loop is None:
            self._loop = Loop()
        if self._loop.steps:
            self._loop.begin_iteration()
        return self._loop

    def _loop_of(self, loop: Loop, sample: Tensor) -> Loop:
        """The loop that the iteration belongs to: a new one, if the sample has another shape."""
        if loop.trajectory is not None and loop.shape != sample.shape:
            loop.trajectory.cancel()
            self._end_loop()
            self._loop = loop = loop.begun_anew()
        loop.shape = sample.shape
        return loop

    def _begin_trajectory(self, loop: Loop, solver: SchedulerStep) -> Trajectory:
        schedule = noise_schedule(solver.scheduler)
        schedule = schedule.tail(position_of(solver.timestep, solver.scheduler))
        schedule = schedule.head(self._steps_announced(solver.scheduler, len(schedule)))
        self._note(self._check_loop(len(schedule)))
        modules = {id(m): m for call in loop.calls_asked for m in modules_of(call.module)}
        loop.attributes = Attributes([self._pipeline, *modules.values()])
        loop.layout = self._layout(loop, solver.sample)
        trajectory = Trajectory(self._policy, schedule, loop.layout.samples, self._make_stream)
        trajectory.open()
        return trajectory

    def _steps_announced(self, scheduler: Any, left: int) -> int:
        """How many steps the pipeline says that its loop has: some leave out the last ones.

        Where a scheduler needs two calls for a step, some say how many steps were asked for.
        """
        announced = getattr(self._pipeline, "num_timesteps", None)
        if getattr(scheduler, "order", 1) != 1 or not isinstance(announced, int) or announced < 1:
            return left
        return announced

    def _layout(self, loop: Loop, sample: Tensor) -> Layout:
        calls = loop.calls_asked
        outputs = [branch.output for branch in loop.branches.values()]
        layout = layout_of([(call.args, call.kwargs) for call in calls], sample, outputs)
        if layout.samples > 1 and any(is_patched(call.module) for call in calls):
            reason = (
                "the denoiser has attention of its own, or other code in place of its classes', "
                "which may look across samples"
            )
            layout = Layout(1, reason=reason)
        if layout.reason is not None:
            self._note(f"the batch is decided as a whole: {layout.reason}")
        return layout

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        self._roles.begin_loop()
        if loop is None or loop.trajectory is None:
            return
        self._longest_loop = max(self._longest_loop, len(loop.trajectory.mask[0]))
        self._mask = _side_by_side(self._mask, loop.trajectory.mask)
        for remark in loop.trajectory.remarks:
            self._note(remark)
        if loop.trajectory.repeats is not None:
            self._repeats.append(loop.trajectory.repeats)
        if loop.trajectory.repeats is False:
            self._note(
                "skipped steps keep their forecasts: the scheduler's steps can't be taken again, "
                "since they did not repeat"
            )

    # The report ---------------------------------------------------------------------------------

    def adopt(self, report: Report) -> None:
        """Takes in what a call of the same pipeline, made within this one, has done.

        One in the middle of a loop (a preview) is no part of this one.
        """
        if self._loop is not None and self._loop.is_complete:
            self._end_loop()
        if self._loop is None or self._loop.trajectory is None:
            self._mask = _side_by_side(self._mask, report.mask)
            self._others |= report.roles
            self._repeats += [] if report.repeats is None else [report.repeats]
            for note in report.notes:
                self._note(note)
            self._first_call = self._first_call or time.perf_counter() - report.seconds
            self._last_step = time.perf_counter()

    def close(self) -> None:
        """Ends what may still be going on, also after an error."""
        self._roles.flow.end()

    def finish(self, note: str = "") -> Report:
        """Ends the generation and says what it did, and what else there is to note."""
        self._end_loop()
        if 0 < self._longest_loop < self._policy.fewest_steps:
            self._note(
                f"nothing was skipped: the policy computes all of {self._longest_loop} steps, "
                f"and can skip some of {self._policy.fewest_steps} or more"
            )
        if not self._mask and not self._refused:
            self._note(f"nothing was skipped: {self._what_was_not_seen()}")
        self._note(note)
        seconds = self._last_step - (self._first_call or self._last_step)
        return Report(
            self._policy,
            self._mask,
            seconds,
            self._notes,
            roles=self._others | self._roles_by_name(),
            repeats=all(self._repeats) if self._repeats else None,
        )

    def _roles_by_name(self) -> dict[str, str]:
        """What the modules called were in the loops, if there was one."""
        if not self._mask:
            return {}
        called = self._called.values()
        return {name_of(each, self._pipeline): self._roles.role_of(each) for each in called}

    def _what_was_not_seen(self) -> str:
        if not self._unseen_steps:
            return "no step of one of the pipeline's schedulers was seen"
        seen = f"{self._unseen_steps} steps were seen, but no call of a denoiser before them"
        if self._called:
            names = ", ".join(name_of(each, self._pipeline) for each in self._called.values())
            return (
                f"{self._unseen_steps} steps were seen, and calls of {names}, which was not seen "
                "to denoise: to take the scheduler's sample, and answer what the scheduler is given"
            )
        if self._calls_elsewhere:
            return (
                f"{seen}; it was called in another thread or context: "
                "call it in the one that calls the pipeline"
            )
        return (
            f"{seen}; a denoiser is seen where it is called as pipe.unet(...), not by its forward "
            "or through an object that hides it"
        )

    def _note(self, note: str) -> None:
        if note and note not in self._notes:
            self._notes.append(note)

    def _refuse(self, reason: str) -> None:
        self._note(f"nothing was skipped: {reason}")
        self._refused, self._loop = True, None


def _blank(tensor: Tensor) -> Tensor:
    """Zeros in the tensor's shape that take no memory: nobody reads them."""
    return torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


def _side_by_side(before: list[list[bool]], after: list[list[bool]]) -> list[list[bool]]:
    """Joins the masks of two loops; one decided as a whole counts for every sample."""
    if not before or not after:
        return before or after
    samples = max(len(before), len(after))
    return [before[i % len(before)] + after[i % len(after)] for i in range(samples)]
