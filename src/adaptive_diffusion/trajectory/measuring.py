"""Runs that teach what a model is like: recorded in full, or disturbed on purpose.

Three kinds of streams stand where otherwise outputs are forecast. Each leads one solver's outputs
and samples on, step by step:

- a *recorded* stream is a full run, and keeps its outputs;
- a *disturbed* stream gets the outputs of a recorded run up to a step, with an error in the last
  of them, and goes on from there by itself: how much of the error is in the result?
- a *displaced* stream repeats a recorded run, but shows the denoiser samples that are moved a
  little: how do its outputs answer?
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.statistics import Terms, kernel_of
from adaptive_diffusion.policies import Policy, Trace
from adaptive_diffusion.trajectory.forecaster import Forecaster
from adaptive_diffusion.trajectory.tape import SolverStep

__all__ = [
    "FEWEST_STEPS",
    "After",
    "Displaced",
    "Disturbance",
    "Disturbed",
    "RecordedLoop",
    "Recorder",
]

FEWEST_STEPS = 3
"""Of a loop in which one can be skipped."""

Response = tuple[float, float]
"""Of an output to a displaced sample: along the displacement and across it, relative to it."""


@dataclass(frozen=True)
class After(Policy):
    """Computes the steps after one, and the first, which has nothing to stand in; by default all.

    It is the policy of all these runs.
    """

    step: int = -1

    def __str__(self) -> str:
        return "in full, to learn" if self.step < 0 else f"after step {self.step}, to learn"

    def decide(self, trace: Trace) -> bool:
        return trace.step > self.step


@dataclass
class RecordedStream:
    """One stream's outputs in a full run, on the CPU.

    Attributes:
        outputs: what the solver was given; one tensor per step.
        values: what is forecast of them: the same, or velocities where the solver adds noise.
        result: the sample after the last step.
    """

    outputs: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    result: Tensor | None = None

    @property
    def noisy(self) -> bool:
        """Whether the solver added noise."""
        pairs = zip(self.values, self.outputs, strict=True)
        return any(value is not output for value, output in pairs)

    @property
    def means(self) -> list[Tensor]:
        """The values without the channels of a learned variance, which stand behind."""
        assert self.result is not None
        return [value[:, : self.result.shape[1]] for value in self.values]

    def kernel(self) -> Tensor:
        """How the values go together: the mean over the samples, `(N, N)`."""
        return kernel_of(self.means)


@dataclass
class RecordedLoop:
    """A loop's streams, in the order in which they come.

    Attributes:
        schedule: the loop's steps, as the scheduler says.
        samples: how many decided for themselves; 1 for a batch decided as a whole.
    """

    schedule: NoiseSchedule
    samples: int
    streams: list[RecordedStream] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """That were taken; some pipelines leave out their scheduler's last one."""
        return len(self.streams[0].outputs)

    @property
    def is_even(self) -> bool:
        """Whether all streams took the same number of steps."""
        return all(len(stream.outputs) == self.steps for stream in self.streams)

    @property
    def dtype(self) -> str:
        """Of the outputs, such as "float32"."""
        return str(self.streams[0].outputs[0].dtype).removeprefix("torch.")

    def terms(self, number: int) -> Terms:
        """Of what is forecast in a stream: its outputs, or the velocities that they predict."""
        stream, velocity = self.streams[number], self.schedule.velocity
        return tuple(
            (0.0, 1.0) if velocity is None or value is output else velocity[step]
            for step, (value, output) in enumerate(zip(stream.values, stream.outputs, strict=True))
        )


class _Led:
    """What a trajectory asks of any stream, for one in which nothing is forecast."""

    errors: Tensor | None = None
    changes: Tensor | None = None
    turned = False
    repeats: bool | None = None

    def __init__(self, forecaster: Forecaster) -> None:
        self.forecaster = forecaster

    def restart(self) -> None:
        """Nothing is forecast, so that nothing has to be forgotten."""

    def see(self, result: Tensor) -> None:
        """Nothing is decided by how far a sample has come."""


class Recorder:
    """Makes recorded streams; all loops of a call, one after the other, stand in `loops`."""

    def __init__(self) -> None:
        self.loops: list[RecordedLoop] = []

    def __call__(self, policy: Policy, schedule: NoiseSchedule, samples: int, number: int) -> _Led:
        if number == 0:
            self.loops.append(RecordedLoop(schedule, samples))
        stream = RecordedStream()
        self.loops[-1].streams.append(stream)
        return _Recorded(Forecaster(policy, schedule, samples, number), stream)


class _Recorded(_Led):
    def __init__(self, forecaster: Forecaster, record: RecordedStream) -> None:
        super().__init__(forecaster)
        self._record = record

    def advance(
        self, step: int, mask: list[bool], output: Tensor, sample: Tensor, solver: SolverStep
    ) -> Tensor:
        kept, before = output.detach().clone(), sample.detach().clone()
        result = solver.run(output, sample)
        self.forecaster.hear_of_noise(solver.drew_noise)
        value = self.forecaster.value(step, kept, before)
        self._record.outputs.append(kept.cpu())
        self._record.values.append(self._record.outputs[-1] if value is kept else value.cpu())
        self._record.result = result.detach().cpu().clone()
        return result


@dataclass(frozen=True)
class Disturbance:
    """An error in an output: of which loop, stream and step, and the error itself."""

    loop: int
    stream: int
    step: int
    error: Tensor


class Disturbed:
    """Makes streams that follow a recorded run up to a disturbance; `results` has where they end.

    `move` is how far a unit of the error moves the next sample.

    The denoiser is needed after the disturbed step only. In the loops before the disturbed one it
    is not needed at all.
    """

    def __init__(self, recorded: list[RecordedLoop], disturbance: Disturbance) -> None:
        self._recorded = recorded
        self._disturbance = disturbance
        self._loop = -1
        self.results: list[Tensor | None] = []
        self.move = 0.0

    def __call__(self, policy: Policy, schedule: NoiseSchedule, samples: int, number: int) -> _Led:
        if number == 0:
            self._loop += 1
        forecaster = Forecaster(policy, schedule, samples, number)
        recorded = self._recorded[self._loop].streams[number]
        if self._loop > self._disturbance.loop:
            return _DisturbedStream(forecaster, recorded, self, follows=0)
        if self._loop < self._disturbance.loop:
            return _DisturbedStream(forecaster, recorded, self, follows=len(schedule))
        self.results.append(None)
        return _DisturbedStream(
            forecaster,
            recorded,
            self,
            follows=self._disturbance.step + 1,
            error=self._disturbance.error if number == self._disturbance.stream else None,
            number=number,
        )


class _DisturbedStream(_Led):
    def __init__(
        self,
        forecaster: Forecaster,
        recorded: RecordedStream,
        run: Disturbed,
        follows: int,
        error: Tensor | None = None,
        number: int | None = None,
    ) -> None:
        super().__init__(forecaster)
        self._recorded = recorded
        self._run = run
        self._follows = follows  # so many recorded outputs; an error is in the last of them
        self._error = error
        self._number = number  # in the disturbed loop

    def advance(
        self, step: int, mask: list[bool], output: Tensor, sample: Tensor, solver: SolverStep
    ) -> Tensor:
        if step < self._follows:
            output = self._recorded.outputs[step].to(output)
        if step == self._follows - 1 and self._error is not None:
            result = self._disturb(output, sample, solver, self._error.to(output))
        else:
            result = solver.run(output, sample)
        if self._number is not None:
            self._run.results[self._number] = result.detach().cpu().clone()
        return result

    def _disturb(self, output: Tensor, sample: Tensor, solver: SolverStep, error: Tensor) -> Tensor:
        """Takes the step with the error, and before without it, to see how far it moves."""
        state, before = solver.state(), sample.clone()
        without = solver.run(output, sample).clone()
        solver.restore(state)
        disturbed = output.clone()
        disturbed[:, : error.shape[1]] += error
        result = solver.run(disturbed, before)
        moved = (result - without)[:, : error.shape[1]].float()
        self._run.move = float((moved * error).sum() / error.float().square().sum())
        return result


class Displaced:
    """Makes streams that show the denoiser displaced samples; `responses` has what came of it.

    Args:
        recorded: the run that is repeated.
        moves: for every loop, stream and step, how the sample that enters the step is displaced;
            None where it is not.
    """

    def __init__(
        self,
        recorded: list[RecordedLoop],
        moves: list[list[list[Tensor | None]]],
    ) -> None:
        self._recorded = recorded
        self._moves = moves
        self._loop = -1
        self.responses: list[list[list[Response | None]]] = [
            [[None] * len(steps) for steps in streams] for streams in moves
        ]

    def __call__(self, policy: Policy, schedule: NoiseSchedule, samples: int, number: int) -> _Led:
        if number == 0:
            self._loop += 1
        return _DisplacedStream(
            Forecaster(policy, schedule, samples, number),
            self._recorded[self._loop].streams[number],
            self._moves[self._loop][number],
            self.responses[self._loop][number],
        )


class _DisplacedStream(_Led):
    def __init__(
        self,
        forecaster: Forecaster,
        recorded: RecordedStream,
        moves: list[Tensor | None],
        responses: list[Response | None],
    ) -> None:
        super().__init__(forecaster)
        self._recorded = recorded
        self._moves = moves
        self._responses = responses
        self._displacement: Tensor | None = None

    def advance(
        self, step: int, mask: list[bool], output: Tensor, sample: Tensor, solver: SolverStep
    ) -> Tensor:
        true = self._recorded.outputs[step].to(output)
        if self._displacement is not None:
            move = self._displacement
            channels = move.shape[1]
            answer = (output[:, :channels].float() - true[:, :channels].float()).flatten()
            size = torch.dot(move.flatten(), move.flatten())
            along = torch.dot(answer, move.flatten()) / size
            whole = torch.dot(answer, answer) / size
            across = (whole - along**2).clamp(min=0).sqrt()
            self._responses[step] = float(along), float(across)
            sample = (sample.float() - move).to(sample.dtype)
        result = solver.run(true, sample)
        move_next = self._moves[step + 1] if step + 1 < len(self._moves) else None
        if move_next is None:
            self._displacement = None
            return result
        before = result.float().clone()
        result.add_(move_next.to(result))  # in place: the pipeline has this tensor already
        self._displacement = result.float() - before  # as it came out, after rounding
        return result
