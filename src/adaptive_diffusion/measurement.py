r"""Measuring what a model is like, in a few runs of its pipeline.

Full runs give the kernel of the outputs. From it follows, for every step, what error a forecast
has. Such errors are then brought in on purpose: into one output, to see how much of it is in the
result, and into the samples that the denoiser is shown, to see how its outputs answer. A run that
is disturbed at one step needs the denoiser after it only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.errors import CalibrationError
from adaptive_diffusion.numerics.kriging import kriging_weights
from adaptive_diffusion.numerics.statistics import NUGGET, LoopStatistics, Statistics
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory.measuring import (
    FEWEST_STEPS,
    After,
    Displaced,
    Disturbance,
    Disturbed,
    RecordedLoop,
    Recorder,
    Response,
)

__all__ = ["DISTURBED", "NotMeasurableError", "calls_needed", "measure"]

DISTURBED = 2
"""How many of the recorded samples are disturbed, too."""

_PLACES = 10  # steps of a loop that are disturbed
_SIZE = 0.01  # of a displacement, relative to its sample
_GAP = 2  # between the outputs from which the disturbing errors are forecast
_SMALLEST_GAIN = 1e-4


class NotMeasurableError(CalibrationError):
    """The pipeline's loops can't be recorded, or differ from sample to sample."""


def calls_needed(steps: int, runs: int, disturbed: int = DISTURBED) -> int:
    """About how many denoiser calls a measurement takes for a loop of so many steps."""
    after = sum(steps - step for step in _places(steps))
    return runs * steps + disturbed * (steps + after)


def measure(
    pipe: Any,
    runs: Sequence[Callable[[], Any]],
    disturbed: int = DISTURBED,
    notify: Callable[[str], None] = lambda _: None,
    keep: Callable[[int, Any], None] = lambda index, made: None,
) -> tuple[tuple[LoopStatistics, ...], str]:
    """The statistics of every loop of a pipeline's call, and the type of its outputs.

    Args:
        pipe: the pipeline; it is not enabled.
        runs: each calls the pipeline for one sample, always the same; two or more.
        disturbed: how many of them are disturbed, too.
        notify: told what is being done.
        keep: given which of the runs was recorded, and what it made: to the bit what a plain run
            makes.

    Raises:
        NotMeasurableError: if the pipeline runs no loop that can be recorded, or not always the
            same.
    """
    kernels: list[list[list[Tensor]]] = []
    kept: list[list[RecordedLoop]] = []
    for index, run in enumerate(runs):
        notify(f"recorded run {index + 1} of {len(runs)}")
        recorder = Recorder()
        keep(index, _with(pipe, run, After(), recorder))
        _check(recorder.loops, kept)
        kernels.append([[each.kernel() for each in loop.streams] for loop in recorder.loops])
        if index < max(disturbed, 1):
            kept.append(recorder.loops)
    loops = kept[0]
    by_loop = [
        [torch.stack(of_runs).mean(dim=0) for of_runs in zip(*of_loop, strict=True)]
        for of_loop in zip(*kernels, strict=True)
    ]
    samples = [
        _Sample(pipe, run, recorded, by_loop)
        for run, recorded in zip(runs, kept[:disturbed], strict=False)
    ]
    responses = []
    effects = []
    for index, sample in enumerate(samples):
        notify(f"displaced run {index + 1} of {len(samples)}")
        responses.append(sample.responses())
        notify(f"disturbed runs of sample {index + 1} of {len(samples)}")
        effects.append(sample.effects())
    measured = tuple(
        tuple(
            _statistics(
                loop,
                number,
                by_loop[at][number],
                [each[at][number] for each in effects],
                [each[at][number] for each in responses],
            )
            for number in range(len(loop.streams))
        )
        for at, loop in enumerate(loops)
    )
    return measured, loops[0].dtype


class _Sample:
    """One sample's run, recorded, and what becomes of it when it is disturbed."""

    def __init__(
        self,
        pipe: Any,
        run: Callable[[], Any],
        recorded: list[RecordedLoop],
        kernels: list[list[Tensor]],
    ) -> None:
        self._pipe = pipe
        self._run = run
        self._recorded = recorded
        self._kernels = kernels

    def responses(self) -> list[list[list[Response | None]]]:
        """How the outputs answer displaced samples, for every loop, stream and step."""
        moves = [
            [
                [
                    self._displacement(at, number, step) if step > 1 else None
                    for step in range(loop.steps)
                ]
                for number in range(len(loop.streams))
            ]
            for at, loop in enumerate(self._recorded)
        ]
        run = Displaced(self._recorded, moves)
        _with(self._pipe, self._run, After(), run)
        return run.responses

    def effects(self) -> list[list[dict[int, tuple[float, float]]]]:
        """What an error of one in an output does, for every loop and stream, by step.

        How far it moves the next sample, and the relative error of the result.
        """
        return [
            [
                {step: self._effect(at, number, step) for step in _places(loop.steps)}
                for number in range(len(loop.streams))
            ]
            for at, loop in enumerate(self._recorded)
        ]

    def _effect(self, at: int, number: int, step: int) -> tuple[float, float]:
        loop = self._recorded[at]
        gain = max(loop.schedule.gains[step], _SMALLEST_GAIN)
        error = self._error(at, number, step) * (_SIZE / gain)
        run = Disturbed(self._recorded, Disturbance(at, number, step, error))
        _with(self._pipe, self._run, After(step), run)
        square = 0.0
        for stream, result in zip(loop.streams, run.results, strict=True):
            assert stream.result is not None
            assert result is not None
            true = stream.result.float()
            square += (_rms(result.float() - true) / max(_rms(true), 1e-12)) ** 2
        return run.move, math.sqrt(square) / _rms(error)

    def _displacement(self, at: int, number: int, step: int) -> Tensor:
        """Of the sample that enters `step`: along the error of a forecast of the step before."""
        result = self._recorded[at].streams[number].result
        assert result is not None
        return self._error(at, number, step - 1) * (_SIZE * _rms(result))

    def _error(self, at: int, number: int, step: int) -> Tensor:
        """The error of a forecast, in the channels that move the sample; its mean square is one."""
        stream = self._recorded[at].streams[number]
        values = stream.means
        if step == 0:
            return _unit(values[1].float() - values[0].float())
        nodes = [n for n in range(step - _GAP, -1, -_GAP)][:4] or [0]
        weights = kriging_weights(self._kernels[at][number], nodes, [step], NUGGET)[:, 0].tolist()
        error = values[step].float().clone()
        for weight, node in zip(weights, nodes, strict=True):
            error -= weight * values[node].float()
        return _unit(error)


def _statistics(
    loop: RecordedLoop,
    number: int,
    kernel: Tensor,
    effects: Sequence[dict[int, tuple[float, float]]],
    responses: Sequence[list[Response | None]],
) -> Statistics:
    along, across = ([[r and r[part] for r in each] for each in responses] for part in range(2))
    moves, shares = (_spread(loop, [_part(each, part) for each in effects]) for part in range(2))
    return Statistics.of_values(
        loop.schedule,
        loop.terms(number),
        kernel,
        moves,
        shares,
        _filled(along),
        _filled(across),
        loop.streams[number].noisy,
    )


def _with(pipe: Any, run: Callable[[], Any], policy: Policy, make_stream: Any) -> Any:
    pipelines.enable(pipe, pipelines.Setting(policy, make_stream=make_stream))
    try:
        return run()
    finally:
        pipelines.disable(pipe)


def _check(loops: list[RecordedLoop], kept: list[list[RecordedLoop]]) -> None:
    if not loops:
        raise NotMeasurableError("the pipeline ran no denoising loop that can be followed")
    if not all(loop.is_even for loop in loops):
        raise NotMeasurableError("the streams of a loop differ in their steps")
    if min(loop.steps for loop in loops) < FEWEST_STEPS:
        raise NotMeasurableError(f"a loop has fewer than {FEWEST_STEPS} steps: none can be skipped")
    if kept and [(each.steps, len(each.streams)) for each in loops] != [
        (each.steps, len(each.streams)) for each in kept[0]
    ]:
        raise NotMeasurableError("the pipeline's loops differ from sample to sample")


def _places(steps: int) -> list[int]:
    """The steps that are disturbed; the last is always computed."""
    count = min(_PLACES, steps - 1)
    return sorted({round(k * (steps - 2) / max(1, count - 1)) for k in range(count)})


def _part(measured: dict[int, tuple[float, float]], part: int) -> dict[int, float]:
    return {step: values[part] for step, values in measured.items()}


def _spread(loop: RecordedLoop, measured: Sequence[dict[int, float]]) -> tuple[float, ...]:
    """Values of all steps, from those measured: what is left of a step's own gain is even."""
    gains = [max(gain, _SMALLEST_GAIN) for gain in loop.schedule.gains[: loop.steps]]
    places = sorted(measured[0])
    sign = math.copysign(1.0, fmean(each[place] for each in measured for place in places))
    logs = [
        fmean(math.log(max(abs(each[place]), 1e-12) / gains[place]) for each in measured)
        for place in places
    ]
    return tuple(sign * math.exp(_line(places, logs, k)) * gains[k] for k in range(loop.steps))


def _line(places: Sequence[int], values: Sequence[float], at: int) -> float:
    for left, right, before, after in zip(places, places[1:], values, values[1:], strict=False):
        if at <= right:
            return before + (after - before) * (at - left) / (right - left)
    return values[-1]


def _filled(measured: Sequence[list[float | None]]) -> tuple[float, ...]:
    means: list[float | None] = []
    for each in zip(*measured, strict=True):
        known = [value for value in each if value is not None and math.isfinite(value)]
        means.append(fmean(known) if known else None)
    first = next((mean for mean in means if mean is not None), 0.0)
    filled: list[float] = []
    for mean in means:
        filled.append(mean if mean is not None else (filled[-1] if filled else first))
    return tuple(filled)


def _unit(error: Tensor) -> Tensor:
    """With a mean square of one; of no error, the same everywhere."""
    size = _rms(error)
    return error / size if size > 0 else torch.ones_like(error)


def _rms(tensor: Tensor) -> float:
    return float(tensor.float().square().mean().sqrt())
