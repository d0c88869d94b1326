"""Skipping denoiser calls in a sampling loop of the user's own.

```python
denoise = AdaptiveDenoiser(model)
denoise.start(timesteps)
for t in timesteps:
    output = denoise(x, t, text=embedding)
    x = step(output, t, x)
```

Told how the loop takes its steps, it also interpolates skipped steps afterwards:

```python
denoise = AdaptiveDenoiser(model, step=step)
denoise.start(timesteps)
for t in timesteps:
    output = denoise(x, t, text=embedding)
    x = denoise.step(output, t, x)
```
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.calls import (
    Branch,
    Call,
    copied,
    has_unclear_rows,
    is_patched,
    made_after_all,
    modules_of,
)
from adaptive_diffusion.adapters.changes import Attributes
from adaptive_diffusion.adapters.containers import (
    has_rows,
    items,
    map_items,
    map_tensors,
    rows_taken,
    tensors,
)
from adaptive_diffusion.errors import NoReportError, PolicyError, StepsError
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule, is_monotonic
from adaptive_diffusion.policies import ErrorControlled, Policy
from adaptive_diffusion.trajectory import Report, Trajectory
from adaptive_diffusion.trajectory.probe import number

__all__ = ["AdaptiveDenoiser"]


class AdaptiveDenoiser:
    """A denoiser that is called only when its output can't be predicted.

    Every first-dimension row of the input is a sample with a plan of its own; only the rows that
    need it are computed. Calls at the same timestep (conditional and unconditional, say) belong to
    one step and are skipped together.

    Without a `step`, a skipped call returns a forecast. With one, it returns the last output again,
    the forecast is made in `AdaptiveDenoiser.step`, of what the loop has made of its outputs
    (guidance, say), and skipped steps are taken again, interpolated, once that is possible.

    Where the conditioning changes on the way, the step is computed and nothing is forecast from
    outputs before it. A call that gradients pass through (grad mode is on, and an argument requires
    them) is computed; all others run without gradients.

    Args:
        denoiser: `denoiser(x, t, **conditioning) -> output`. Output and conditioning may be
            tensors, or containers of them: tuples, dicts, dataclasses. Tensors with B rows are
            taken to have one row per sample. A module whose parts have been patched (a `forward`
            set on an instance, hooks) is decided on for the whole batch.
        policy: when to call it; `ErrorControlled()` by default.
        step: `step(output, t, x) -> x`, the loop's own step. The same arguments must give the same
            result: it may not draw noise, nor remember what it has seen. That is tried once.

    Raises:
        PolicyError: if `policy` is not a policy.
    """

    def __init__(
        self,
        denoiser: Callable[..., Any],
        policy: Policy | None = None,
        step: Callable[[Tensor, Any, Tensor], Tensor] | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._take_step = step
        self._policy = ErrorControlled() if policy is None else policy
        if not isinstance(self._policy, Policy):
            raise PolicyError(f"policy must be a Policy such as ErrorControlled(), not {policy!r}")
        self._schedule: NoiseSchedule | None = None
        self._timesteps: list[float] = []
        self._trajectory: Trajectory | None = None
        self._branches: list[Branch] = []
        self._calls: list[Call] = []  # of the open step
        self._spared: list[tuple[Call, Branch]] = []  # of those, what was not computed
        self._open: int | None = None
        self._stepped = False
        self._plan: list[bool] = []
        self._follows_skip = False
        self._attributes = Attributes([])
        self._notes: list[str] = []
        self._began = self._ended = 0.0

    def start(
        self, timesteps: Sequence[float] | Tensor, schedule: NoiseSchedule | None = None
    ) -> None:
        """Begins a sampling loop.

        Args:
            timesteps: the values of `t` that the loop will pass, in order. Two in a row may be
                alike, as in half precision; the sample tells them apart then.
            schedule: the noise levels of the loop. Without one, `t` itself is the coordinate of
                extrapolation, and all steps count alike.

        Raises:
            StepsError: on an empty loop, or a schedule or policy made for another number of steps.
        """
        values = [float(t) for t in timesteps]
        if not values:
            raise StepsError("timesteps is empty: there is nothing to denoise")
        schedule = _schedule_of(values) if schedule is None else schedule
        if len(schedule) != len(values):
            raise StepsError(f"the schedule has {len(schedule)} steps and the loop {len(values)}")
        self._policy.check_steps(len(values))
        self._schedule = schedule
        self._timesteps, self._trajectory, self._open = values, None, None
        self._branches, self._calls, self._spared, self._notes = [], [], [], []
        self._began = self._ended = time.perf_counter()

    def __call__(self, x: Tensor, t: float | Tensor, **conditioning: Any) -> Any:
        """The denoiser's output at `x` and `t`, of shape `(B, ...)`, or what stands in for it.

        Raises:
            StepsError: without `start`, at a timestep that is not the loop's next, or if there is a
                `step` and the loop did not take it.
        """
        call = Call(self._denoiser, self._denoiser, (x, t), conditioning)
        with torch.set_grad_enabled(call.records_gradients(weights=False)):
            step = self._step_of(t, x)
            if step != self._open:
                self._open_step(step, call)
            branch = self._branch_of(call)
            if torch.is_grad_enabled():
                self._note("steps with gradients were computed")
                self._restart()
            output = self._reuse_or_compute(call, branch)
            if step == 0 and len(self._plan) > 1 and not _has_rows(output, x):
                self._decide_as_a_whole("its answer has not a row for every row of its input")
            if self._take_step is None:
                output = self._filled(len(self._calls), output, x)
            self._calls.append(call)
            self._attributes.note()
            if not torch.is_grad_enabled():
                output = call.give(copied(output))  # the caller may write into it
            self._ended = time.perf_counter()
            return output

    @torch.no_grad()
    def step(self, output: Tensor, t: float | Tensor, x: Tensor) -> Tensor:
        """The sample after the step from `x` at `t`, by the `step` that was given.

        Args:
            output: what the loop has made of the denoiser's outputs at this step.
            t: the timestep that they were asked for at.
            x: the sample that the step begins with.

        Raises:
            StepsError: if no `step` was given, or the denoiser was not called at `t` before.
        """
        if self._take_step is None:
            raise StepsError("no step is known: AdaptiveDenoiser(denoiser, step=...) takes one")
        if self._open is None or self._stepped or not self._stands_at(self._open, t):
            raise StepsError(f"t = {number(t):g} was not denoised: call the denoiser before step")
        assert self._trajectory is not None
        if len(self._calls) < len(self._branches):  # one that the last step had is missing
            self._trajectory.forget()
            del self._branches[len(self._calls) :]
        solver = _OwnStep(self._take_step, t)
        result = self._trajectory.advance(0, output.clone(), x, solver)
        self._stepped = True
        self._ended = time.perf_counter()
        return result

    def report(self) -> Report:
        """What the present loop, or the last one, has done so far.

        Raises:
            NoReportError: if no loop has made a step.
        """
        if self._trajectory is None:
            raise NoReportError("the loop has made no step yet: call start(timesteps), then loop")
        if self._trajectory.repeats is False:
            self._note("skipped steps keep their forecasts: the given step does not repeat")
        if self._trajectory.is_at_its_end:
            for remark in self._trajectory.remarks:
                self._note(remark)
        return Report(
            self._policy, self._trajectory.mask, self._ended - self._began, list(self._notes)
        )

    # Which step it is ---------------------------------------------------------------------------

    def _step_of(self, t: float | Tensor, x: Tensor) -> int:
        following = 0 if self._open is None else self._open + 1
        is_open = self._open is not None and self._stands_at(self._open, t)
        is_next = following < len(self._timesteps) and self._stands_at(following, t)
        if is_open and (not is_next or not self._has_moved(x)):
            return following - 1
        if not is_next:
            raise StepsError(
                f"t = {number(t):g} is not the loop's next timestep: "
                "call start(timesteps) before every loop, with the timesteps that it will pass"
            )
        return following

    def _stands_at(self, step: int, t: float | Tensor) -> bool:
        """Whether `t` is the step's timestep, to the precision that `t` has."""
        expected = self._timesteps[step]
        if isinstance(t, Tensor):
            return bool(t.flatten()[0].cpu() == torch.tensor(expected).to(t.dtype))
        own = type(t) if hasattr(t, "dtype") else float  # NumPy's numbers have a precision, too
        return bool(t == own(expected))

    def _has_moved(self, x: Tensor) -> bool:
        """Whether a step has been taken, where its timestep does not tell."""
        if self._take_step is not None:
            return self._stepped
        before = self._calls[0].args[0]
        return x.shape != before.shape or not torch.equal(x, before)

    def _open_step(self, step: int, call: Call) -> None:
        x = call.args[0]
        if self._trajectory is None:
            self._trajectory = self._begin(call)
        else:
            if self._take_step is None:
                self._trajectory.see(x)
            elif not self._stepped:
                raise StepsError("the loop took a step by itself: x = denoise.step(output, t, x)")
            self._trajectory.close()
        self._follows_skip = not all(self._plan)
        self._plan = self._trajectory.open()
        is_one_missing = len(self._calls) < len(self._branches)
        del self._branches[len(self._calls) :]
        self._open, self._calls, self._spared, self._stepped = step, [], [], False
        if is_one_missing or self._attributes.have_changed():
            self._restart()

    def _begin(self, call: Call) -> Trajectory:
        assert self._schedule is not None
        self._attributes = Attributes(modules_of(self._denoiser))
        samples = len(call.args[0])
        reason = ""
        if samples > 1 and is_patched(self._denoiser):
            reason = "parts of the denoiser are patched"
        elif samples > 1 and has_unclear_rows(call.kwargs, samples):
            reason = "the rows of the conditioning can't be told apart"
        if reason:
            self._note(f"the batch is decided as a whole: {reason}")
        return Trajectory(self._policy, self._schedule, 1 if reason else samples)

    def _decide_as_a_whole(self, reason: str) -> None:
        """In the first step, whose calls are all computed."""
        assert self._schedule is not None
        self._note(f"the batch is decided as a whole: {reason}")
        self._trajectory = Trajectory(self._policy, self._schedule, 1)
        self._plan = self._trajectory.open()

    # What the denoiser answers ------------------------------------------------------------------

    def _branch_of(self, call: Call) -> Branch:
        is_new = len(self._calls) == len(self._branches)
        if is_new:
            self._branches.append(Branch())
        branch = self._branches[len(self._calls)]
        changed = branch.arguments.have_changed((), call.kwargs, self._follows_skip) or is_new
        if changed and self._open:
            self._restart()
        return branch

    def _restart(self) -> None:
        """What is asked has changed: the open step is computed, and so are its calls before."""
        assert self._trajectory is not None
        spared, self._spared = self._spared, []
        self._plan = [True] * len(self._plan)
        if not made_after_all(spared):
            self._trajectory.forget()
            return
        self._trajectory.restart()
        for place, call in enumerate(self._calls if self._take_step is None else ()):
            self._filled(place, self._branches[place].output, call.args[0])  # history begins here

    def _reuse_or_compute(self, call: Call, branch: Branch) -> Any:
        if all(self._plan):
            output = call.compute()
            branch.remember(output)  # the denoiser may answer the next call in the same tensors
            return output if torch.is_grad_enabled() else branch.output
        self._spared.append((call, branch))
        if any(self._plan):
            branch.remember(self._compute_rows(call, branch.output))
        return branch.output

    def _filled(self, place: int, output: Any, x: Tensor) -> Any:
        """A call's output, with each of its tensors forecast where it was not computed."""
        trajectory, places = self._trajectory, itertools.count()
        assert trajectory is not None

        def fill(tensor: Tensor) -> Tensor:
            key = place, next(places)
            is_whole = len(trajectory.traces) == 1  # then it needs no rows
            can_be_filled = tensor.is_floating_point() and (is_whole or has_rows(tensor, len(x)))
            return trajectory.fill(key, tensor, x) if can_be_filled else tensor

        return map_tensors(fill, output)

    def _compute_rows(self, call: Call, last: Any) -> Any:
        x = call.args[0]
        rows = torch.tensor(self._plan, device=x.device).nonzero().flatten()

        def scatter(part: Any, whole: Any) -> Any:
            if isinstance(whole, Tensor):
                return whole.index_copy(0, rows, part) if has_rows(whole, len(x)) else part
            parts = iter(items(part))
            return map_items(lambda item: scatter(next(parts), item), whole)

        args, kwargs = rows_taken((call.args, call.kwargs), rows, len(x))
        return scatter(call.run(*args, **kwargs), last)

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)


class _OwnStep:
    """The step of the user's loop at one timestep: a solver without a state."""

    drew_noise = False

    def __init__(self, step: Callable[[Tensor, Any, Tensor], Tensor], t: float | Tensor) -> None:
        self._step = step
        self._t = t

    def state(self) -> None:
        return None

    def restore(self, state: Any) -> None:
        pass

    def run(self, output: Tensor, sample: Tensor) -> Tensor:
        return self._step(output, self._t, sample)


def _has_rows(output: Any, x: Tensor) -> bool:
    """Whether all tensors in an answer have a row for every sample, and none is a row itself."""
    found = [tensor for tensor in tensors(output) if tensor.ndim]
    are_rows = len(found) == len(x) and all(tensor.shape == x.shape[1:] for tensor in found)
    return not are_rows and all(len(tensor) == len(x) for tensor in found)


def _schedule_of(timesteps: list[float]) -> NoiseSchedule:
    """`t` as the coordinate, equal ones spread over the way to the next; equal steps' gains."""
    uniform = NoiseSchedule.uniform(len(timesteps))
    spread = _spread(timesteps)
    return replace(uniform, coordinates=tuple(spread)) if is_monotonic(spread) else uniform


def _spread(values: list[float]) -> list[float]:
    runs = [len(list(run)) for _, run in itertools.groupby(values)]
    firsts = [values[start] for start in itertools.accumulate([0, *runs[:-1]])]
    if len(firsts) < 2:
        return values
    ends = [*firsts[1:], 2 * firsts[-1] - firsts[-2]]
    return [
        first + (end - first) * i / length
        for first, end, length in zip(firsts, ends, runs, strict=True)
        for i in range(length)
    ]
