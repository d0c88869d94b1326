"""Skipping denoiser calls in a sampling loop of the user's own.

```python
denoise = AdaptiveDenoiser(model)
denoise.start(timesteps)
for t in timesteps:
    output = denoise(x, t, text=embedding)
    x = step(output, t, x)
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
    one step and are skipped together. Skipped steps are not backfilled, since the solver is not
    known here.

    Args:
        denoiser: `denoiser(x, t, **conditioning) -> output`, all of shape `(B, ...)`. Of the
            conditioning, tensors with B rows are taken to have one row per sample.
        policy: when to call it; `ErrorControlled()` by default.

    Raises:
        PolicyError: if `policy` is not a policy.
    """

    def __init__(self, denoiser: Callable[..., Tensor], policy: Policy | None = None) -> None:
        self._denoiser = denoiser
        self._policy = ErrorControlled() if policy is None else policy
        if not isinstance(self._policy, Policy):
            raise PolicyError(f"policy must be a Policy such as ErrorControlled(), not {policy!r}")
        self._schedule: NoiseSchedule | None = None
        self._timesteps: list[float] = []
        self._trajectory: Trajectory | None = None
        self._outputs: list[Tensor] = []
        self._call = 0
        self._open: int | None = None
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
        """The denoiser's output at `x` and `t`, of shape `(B, ...)`: computed or forecast.

        Raises:
            StepsError: without `start`, or at a timestep that is not the loop's next.
        """
        step = self._step_of(t)
        if step != self._open:
            self._open_step(step, x)
        output = self._reuse_or_compute(x, t, conditioning)
        assert self._trajectory is not None
        filled = self._trajectory.fill(self._call, output, x)
        self._call += 1
        self._ended = time.perf_counter()
        return filled.clone()  # the caller may write into it, and it is kept here

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
                f"t = {float(torch.as_tensor(t).flatten()[0]):g} is not the loop's next timestep: "
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
            self._trajectory.see(x)
            self._trajectory.close()
        self._plan = self._trajectory.open()
        self._open, self._call = step, 0

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


def _schedule_of(timesteps: list[float]) -> NoiseSchedule:
    """`t` as the coordinate; the gains of equal steps."""
    uniform = NoiseSchedule.uniform(len(timesteps))
    return replace(uniform, coordinates=tuple(timesteps)) if is_monotonic(timesteps) else uniform
