"""Finding out what a sampler does, by running it without its model.

A sampler is a function that calls a model. Here it is run four times with a stand-in that answers
zero, or an impulse: that costs no evaluation. It tells how often the model is called and with which
times, how the samples depend on its outputs, and whether the sampler draws noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.errors import NotLinearError
from adaptive_diffusion.numerics.linear_response import Blocks, LinearResponse, rounding
from adaptive_diffusion.trajectory.random_sources import RandomSources

__all__ = ["Probe", "StandIn", "number", "probe"]

StandIn = Callable[[Tensor, Any], list[Tensor]]
"""What a sampler calls in place of its model: `(sample, time) -> outputs`."""

_HEIGHT = 16.0  # of an impulse, beside the largest number of the start
_HALF_HEIGHT = 0.25  # the same in half precision, where large numbers are soon infinite
_OPPOSITE = -3.0
_MOST_CALLS = 4096


@dataclass(frozen=True)
class Probe:
    """What a sampler was found to do.

    Attributes:
        times: the time of every call, the first where a call has one per sample.
        response: how the samples depend on the outputs.
        noise: for every call, whether noise has been added to its sample on the way.
    """

    times: tuple[float, ...]
    response: LinearResponse
    noise: tuple[bool, ...]


def probe(run: Callable[[StandIn], Any], sources: RandomSources, outputs: int = 1) -> Probe:
    """Runs a sampler without its model and measures its response.

    Args:
        run: `run(stand_in)` runs the sampler with the stand-in for its model and returns the
            result, a tensor of as many numbers as each sample.
        sources: put back before every run, and at the end.
        outputs: how many outputs a call has.

    Raises:
        NotLinearError: if the sampler is not linear; the message says what was seen.
    """
    watch = _Watch(run, sources, outputs)
    columns = watch.blocks.deal(len(watch.times) * outputs)
    is_half = torch.finfo(watch.dtype).bits < 32
    height = (_HALF_HEIGHT if is_half else _HEIGHT) * max(1.0, watch.largest)
    matrix, spread = watch.blocks.average(
        [(dealt, watch.responses(dealt, height)) for dealt in columns]
    )
    allowed = rounding(watch.dtype, matrix)
    shuffled = watch.blocks.shuffle(columns[0])
    opposite = watch.responses(shuffled, _OPPOSITE * height)
    response = LinearResponse(matrix.view(len(matrix), -1, outputs))
    deviations = [spread, watch.blocks.deviation(shuffled, opposite, matrix), response.foresight]
    if not all(deviation <= allowed for deviation in deviations):
        raise NotLinearError(watch.why_not_linear())
    return Probe(watch.times, response.cleaned(allowed * 1e-3), watch.noise(height * allowed))


class _Watch:
    """Runs a sampler with a stand-in and reads its samples, the first time at rest."""

    def __init__(self, run: Callable[[StandIn], Any], sources: RandomSources, outputs: int) -> None:
        self._run = run
        self._sources = sources
        self._outputs = outputs
        self.blocks = Blocks(1)
        self.times: tuple[float, ...] = ()
        self.largest = 0.0
        self.dtype = torch.float32
        self.times, self._at_rest = self._read(None, 0.0)

    def responses(self, dealt: Tensor, height: float) -> Tensor:
        """What impulses of that height change in all samples, per height.

        Args:
            dealt: for every block of elements, the column of its impulse.
            height: of the impulses.
        """
        times, samples = self._read(dealt, height)
        if times != self.times:
            raise NotLinearError(
                "the times of its calls depend on what the model answers: it chooses its own steps"
            )
        return (samples - self._at_rest) / height

    def noise(self, allowed: float) -> tuple[bool, ...]:
        """For every call, whether its sample is another one under other noise."""
        _, other = self._read(None, 0.0, other_noise=True)
        return tuple((other - self._at_rest)[:-1].abs().amax(dim=1).gt(allowed).tolist())

    def why_not_linear(self) -> str:
        """What explains a deviation: other noise in every run, or a sampler that is not linear."""
        if not torch.equal(self._read(None, 0.0)[1], self._at_rest):
            return "it draws noise from a source that can't be put back"
        return (
            "its samples don't follow the model's outputs in proportion, alike in every element "
            "(thresholds, masks and steps of its own choice have this effect)"
        )

    def _read(
        self, dealt: Tensor | None, height: float, other_noise: bool = False
    ) -> tuple[tuple[float, ...], Tensor]:
        """One run: its times, and its samples as `(calls + 1, blocks)`."""
        times: list[float] = []
        samples: list[Tensor] = []

        def stand_in(sample: Tensor, time: Any) -> list[Tensor]:
            if not times:
                self._meet(sample, other_noise)
            if len(times) >= _MOST_CALLS:
                raise NotLinearError(f"it has called the model {_MOST_CALLS} times without an end")
            first = len(times) * self._outputs
            times.append(number(time))
            samples.append(self.blocks.read(sample))
            columns = range(first, first + self._outputs)
            return [self.blocks.impulse(dealt, column, height, sample) for column in columns]

        self._sources.restore()
        try:
            with self._sources:
                result = self._run(stand_in)
        finally:
            self._sources.negates = False
            self._sources.restore()
        if not times:
            raise NotLinearError("it did not call the model")
        if not isinstance(result, Tensor):
            raise NotLinearError("it does not return its last sample as a tensor")
        return tuple(times), torch.stack([*samples, self.blocks.read(result)])

    def _meet(self, sample: Tensor, other_noise: bool) -> None:
        """Before a run's first call."""
        if not self.times:
            self.blocks = Blocks(sample.numel())
            self.largest, self.dtype = float(sample.abs().max()), sample.dtype
        if other_noise:
            self._sources.negates = True
            self._sources.change_others()


def number(time: Any) -> float:
    """The first number of a time, whatever shape it has; zero if there is none."""
    return 0.0 if time is None else float(torch.as_tensor(time).flatten()[0])
