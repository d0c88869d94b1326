"""Skipping denoiser calls in a sampling loop of the user's own.

```python
denoise = AdaptiveDenoiser(model)
denoise.start(timesteps)
for t in timesteps:
    output = denoise(x, t, text=embedding)
    x = step(output, t, x)
```

Told how the loop takes its steps, it also makes good what was skipped:

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

from adaptive_diffusion.errors import NoReportError, PolicyError, StepsError
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule, is_monotonic
from adaptive_diffusion.policies import ErrorControlled, Policy
from adaptive_diffusion.trajectory import Report, Trajectory

__all__ = ["AdaptiveDenoiser"]


class AdaptiveDenoiser:
    """A denoiser that is called only when its output can't be predicted.

    Every first-dimension row of the input is a sample with a plan of its own; only the rows that
    need it are computed. Calls at the same timestep (conditional and unconditional, say) belong to
    one step and are skipped together.

    Without a `step`, a skipped call returns a forecast. With one, it returns the last output again,
    the forecast is made in `AdaptiveDenoiser.step`, of what the loop has made of its outputs
    (guidance, say), and skipped steps are taken again, interpolated, once that is possible.

    Args:
        denoiser: `denoiser(x, t, **conditioning) -> output`, all of shape `(B, ...)`. Of the
            conditioning, tensors with B rows are taken to have one row per sample.
        policy: when to call it; `ErrorControlled()` by default.
        step: `step(output, t, x) -> x`, the loop's own step. The same arguments must give the same
            result: it may not draw noise, nor remember what it has seen.

    Raises:
        PolicyError: if `policy` is not a policy.
    """

    def __init__(
        self,
        denoiser: Callable[..., Tensor],
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
        self._outputs: list[Tensor] = []
        self._call = 0
        self._open: int | None = None
        self._stepped = False
        self._plan: list[bool] = []
        self._began = self._ended = 0.0

    def start(
        self, timesteps: Sequence[float] | Tensor, schedule: NoiseSchedule | None = None
    ) -> None:
        """Begins a sampling loop.

        Args:
            timesteps: the values of `t` that the loop will pass, in order; no two alike in a row.
            schedule: the noise levels of the loop. Without one, `t` itself is the coordinate of
                extrapolation, and all steps count alike.

        Raises:
            StepsError: on an empty loop, or a schedule or policy made for another number of steps.
        """
        values = [float(t) for t in timesteps]
        if not values:
            raise StepsError("timesteps is empty: there is nothing to denoise")
        if any(t == following for t, following in itertools.pairwise(values)):
            raise StepsError("two timesteps in a row are alike: a step is known by its own")
        schedule = _schedule_of(values) if schedule is None else schedule
        if len(schedule) != len(values):
            raise StepsError(f"the schedule has {len(schedule)} steps and the loop {len(values)}")
        self._policy.check_steps(len(values))
        self._schedule = schedule
        self._timesteps, self._trajectory, self._open = values, None, None
        self._began = self._ended = time.perf_counter()

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float | Tensor, **conditioning: Any) -> Tensor:
        """The denoiser's output at `x` and `t`, of shape `(B, ...)`, or what stands in for it.

        Raises:
            StepsError: without `start`, at a timestep that is not the loop's next, or if there is a
                `step` and the loop did not take it.
        """
        step = self._step_of(t)
        if step != self._open:
            self._open_step(step, x)
        output = self._reuse_or_compute(x, t, conditioning)
        if self._take_step is None:
            assert self._trajectory is not None
            output = self._trajectory.fill(self._call, output, x)
        self._call += 1
        self._ended = time.perf_counter()
        return output.clone()  # the caller may write into it, and it is kept here

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
            raise StepsError(f"t = {_number(t):g} was not denoised: call the denoiser before step")
        assert self._trajectory is not None
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
        return Report(self._policy, self._trajectory.mask, self._ended - self._began)

    def _step_of(self, t: float | Tensor) -> int:
        if self._open is not None and self._stands_at(self._open, t):
            return self._open
        following = 0 if self._open is None else self._open + 1
        if following >= len(self._timesteps) or not self._stands_at(following, t):
            raise StepsError(
                f"t = {_number(t):g} is not the loop's next timestep: "
                "call start(timesteps) before every loop, with the timesteps that it will pass"
            )
        return following

    def _stands_at(self, step: int, t: float | Tensor) -> bool:
        """Whether `t` is the step's timestep, to the precision that `t` has."""
        expected = self._timesteps[step]
        if isinstance(t, Tensor):
            return bool(t.flatten()[0].cpu() == torch.tensor(expected).to(t.dtype))
        return float(t) == expected

    def _open_step(self, step: int, x: Tensor) -> None:
        if self._trajectory is None:
            assert self._schedule is not None
            self._trajectory = Trajectory(self._policy, self._schedule, len(x))
            self._outputs = []
        else:
            if self._take_step is None:
                self._trajectory.see(x)
            elif not self._stepped:
                raise StepsError("the loop took a step by itself: x = denoise.step(output, t, x)")
            self._trajectory.close()
        self._plan = self._trajectory.open()
        self._open, self._call, self._stepped = step, 0, False

    def _reuse_or_compute(self, x: Tensor, t: float | Tensor, conditioning: Any) -> Tensor:
        is_new = self._call >= len(self._outputs)  # without history there is nothing to reuse
        if is_new or all(self._plan):
            output = self._denoiser(x, t, **conditioning)
        elif any(self._plan):
            output = self._compute_rows(x, t, conditioning)
        else:
            output = self._outputs[self._call]
        self._outputs[self._call : self._call + 1] = [output]
        return output

    def _compute_rows(self, x: Tensor, t: float | Tensor, conditioning: Any) -> Tensor:
        rows = torch.tensor(self._plan, device=x.device).nonzero().flatten()

        def gather(value: Any) -> Any:
            per_sample = isinstance(value, Tensor) and value.ndim and len(value) == len(x)
            return value[rows.to(value.device)] if per_sample else value

        chosen = {name: gather(value) for name, value in conditioning.items()}
        computed = self._denoiser(gather(x), gather(t), **chosen)
        return self._outputs[self._call].index_copy(0, rows, computed)


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


def _number(t: float | Tensor) -> float:
    return float(torch.as_tensor(t).flatten()[0])


def _schedule_of(timesteps: list[float]) -> NoiseSchedule:
    """`t` as the coordinate; the gains of equal steps."""
    uniform = NoiseSchedule.uniform(len(timesteps))
    return replace(uniform, coordinates=tuple(timesteps)) if is_monotonic(timesteps) else uniform
