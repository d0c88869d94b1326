"""One run of a sampling loop: what each sample has done, and what it does next.

A step goes downward through this file: `open` asks the policy which samples to compute, the
adapter calls the denoiser for those, `advance` completes the output, makes good what was skipped
and moves the sample (`fill` only completes it, where the solver is the user's own), and `close`
writes down what was seen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.policies import Policy, Trace
from adaptive_diffusion.trajectory.stream import Stream
from adaptive_diffusion.trajectory.tape import SolverStep

__all__ = ["StreamMaker", "Trajectory"]

StreamMaker = Callable[[Policy, NoiseSchedule, int, int], Any]
"""`make(policy, schedule, samples, number)`: the stream of that number in its loop."""


class Trajectory:
    """The state of one sampling loop; made for it and dropped after it.

    Several streams may pass through one loop (the denoiser's separate outputs for video and audio,
    each with a solver of its own): a step is skipped for all of them or for none, and the largest
    of their errors counts.

    Args:
        policy: decides which steps are computed.
        schedule: the loop's steps.
        samples: how many samples decide for themselves; 1 for a batch decided as a whole.
        make_stream: makes what leads a solver's outputs and samples on; a measurement has others.

    Raises:
        StepsError: if the policy can't serve that many steps.
    """

    def __init__(
        self,
        policy: Policy,
        schedule: NoiseSchedule,
        samples: int,
        make_stream: StreamMaker = Stream,
    ) -> None:
        policy.check_steps(len(schedule))
        self.traces = [Trace(schedule) for _ in range(samples)]
        self._policy = policy
        self._schedule = schedule
        self._streams: dict[Hashable, Stream] = {}
        self._plan = [True] * samples
        self._is_open = False
        self._make_stream = make_stream

    @property
    def step(self) -> int:
        """The step that is open, or comes next."""
        return self.traces[0].step

    @property
    def is_at_its_end(self) -> bool:
        """Whether the open step, or the last one closed, is the loop's last."""
        return len(self.mask[0]) >= len(self._schedule)

    @property
    def mask(self) -> list[list[bool]]:
        """For every sample, which steps were computed, the open one included."""
        opened = (
            [[computed] for computed in self._plan] if self._is_open else [[]] * len(self.traces)
        )
        return [trace.mask + now for trace, now in zip(self.traces, opened, strict=True)]

    def attach(self, key: Hashable, stream: Any) -> None:
        """Lets a stream that was made elsewhere take part in the loop."""
        self._streams[key] = stream

    def open(self) -> list[bool]:
        """Begins a step: for each sample, whether the denoiser must be called."""
        self._is_open = True
        outside = self.step >= len(self._schedule)
        self._plan = [
            outside or trace.step == trace.begun or self._policy.decide(trace)
            for trace in self.traces
        ]
        return self._plan

    def compute_all(self) -> list[bool]:
        """Overrules the plan of the open step: the denoiser is called for every sample."""
        self._plan = [True] * len(self.traces)
        return self._plan

    def restart(self) -> None:
        """What the denoiser is asked has changed: nothing is drawn through outputs from before.

        The open step is computed, and skipped steps before it keep their forecasts.
        """
        self.compute_all()
        self.forget()

    def forget(self) -> None:
        """The same, too late for the open step: it keeps its plan, and the next is computed."""
        for stream in self._streams.values():
            stream.restart()
        for trace, computed in zip(self.traces, self._plan, strict=True):
            trace.begun = self.step if computed else self.step + 1

    @property
    def repeats(self) -> bool | None:
        """Whether the solvers' steps can be taken again; None if that was not tried."""
        tried = [each.repeats for each in self._streams.values() if each.repeats is not None]
        return all(tried) if tried else None

    @property
    def remarks(self) -> list[str]:
        """What the policy has to tell of the loop, now that it has ended; each only once."""
        return list(dict.fromkeys(filter(None, map(self._policy.remark, self.mask))))

    def cancel(self) -> None:
        """Takes back that a step was begun: it belongs to another loop."""
        self._is_open = False

    def fill(self, key: Hashable, output: Tensor, sample: Tensor) -> Tensor:
        """The open step's output with forecasts for the samples that were skipped."""
        if self.step >= len(self._schedule):
            return output
        return self._stream(key).fill(self.step, self._plan, output, sample)

    def see(self, sample: Tensor) -> None:
        """Where the open step has led, for a loop that takes its steps itself."""
        for stream in self._streams.values():
            stream.see(sample)

    def advance(self, key: Hashable, output: Tensor, sample: Tensor, solver: SolverStep) -> Tensor:
        """The sample after the open step; `key` tells the streams of a loop apart."""
        if self.step >= len(self._schedule):
            return solver.run(output, sample)
        return self._stream(key).advance(self.step, self._plan, output, sample, solver)

    def close(self) -> None:
        """Ends the open step: writes what was seen into the traces."""
        self._is_open = False
        errors = self._largest([stream.errors for stream in self._streams.values()])
        changes = self._largest([stream.changes for stream in self._streams.values()])
        nodes = min((stream.forecaster.nodes for stream in self._streams.values()), default=1)
        turned = any(stream.turned for stream in self._streams.values())
        for trace, computed, error, change in zip(
            self.traces, self._plan, errors, changes, strict=True
        ):
            trace.mask.append(computed)
            trace.errors.append(error if computed else math.nan)
            trace.changes.append(change)
            trace.nodes = nodes
            if turned:  # what is known begins with this step, or where nothing is, with the next
                trace.begun = trace.step - computed

    def _stream(self, key: Hashable) -> Stream:
        if key not in self._streams:
            number = len(self._streams)
            self._streams[key] = self._make_stream(
                self._policy, self._schedule, len(self.traces), number
            )
        return self._streams[key]

    def _largest(self, statistics: list[Tensor | None]) -> list[float]:
        measured = [statistic for statistic in statistics if statistic is not None]
        if not measured:
            return [math.nan] * len(self.traces)
        largest = functools.reduce(torch.maximum, measured)  # not a number wins over any number
        return largest.tolist()
