"""Forecasts and backfill in a loop whose sampler is linear and is not taken apart.

The sampler keeps what it was told. What is known better later is not put into it, but beside it: a
change of output j by :math:`\\Delta_j` changes the sample that enters call k by
:math:`c_{kj}\\Delta_j`, whatever the sampler does in between. So the denoiser is asked about the
sample that the sampler would have had, and its answer is what the sampler is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from adaptive_diffusion.numerics.call_schedule import Exchange
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.rows import select_rows
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory.corrections import Corrections
from adaptive_diffusion.trajectory.forecaster import Forecaster

__all__ = ["LinearStream"]


@dataclass
class _Skipped:
    """A call for which some samples got a forecast that still stands."""

    call: int
    sample: Tensor  # as it should have been, by what is known
    share: Tensor | None
    values: list[Tensor]
    pending: list[bool]


class LinearStream:
    """Completes and corrects the outputs of one linear loop.

    Args:
        policy: says what a skipped call gets, and whether that is corrected later.
        schedule: the loop's calls.
        samples: how many samples decide for themselves.
        response: how the loop answers its model.
        exchange: for every call, what is forecast.
        noise: for every call, whether noise has been added to its sample on the way.

    Attributes:
        errors: relative error of the present call's forecast, one per sample, the largest of its
            outputs; None if not measured.
        changes: mean absolute change of the sample up to the present call; None if not measured.
        turned: whether the sampler adds its first noise after the present call: what was measured
            before it says nothing of what follows. Velocities are forecast from the start.
        repeats: whether steps can be taken again; none is.
    """

    repeats: bool | None = None

    def __init__(
        self,
        policy: Policy,
        schedule: NoiseSchedule,
        samples: int,
        response: LinearResponse,
        exchange: Sequence[Exchange],
        noise: Sequence[bool],
    ) -> None:
        self.errors: Tensor | None = None
        self.changes: Tensor | None = None
        self.turned = False
        self._policy = policy
        self._samples = samples
        self._response = response
        self._exchange = exchange
        self._forecasters = [
            Forecaster(policy, schedule, samples, output) for output in range(response.outputs)
        ]
        self._noise = noise
        if any(noise):
            for forecaster in self._forecasters:
                forecaster.hear_of_noise(True)
        self._corrections = Corrections(response)
        self._skipped: list[_Skipped] = []
        self._last: list[Tensor] = []  # as they were computed: what a skipped call starts from
        self._before: Tensor | None = None
        self._share: Tensor | None = None

    @property
    def forecaster(self) -> Forecaster:
        """The first output's; all go through as many nodes."""
        return self._forecasters[0]

    def restart(self) -> None:
        """Forgets all outputs; skipped calls that wait for a better output keep theirs."""
        for forecaster in self._forecasters:
            forecaster.restart()
        self._skipped = []

    def enter(self, call: int, sample: Tensor, share: Tensor | None = None) -> Tensor:
        """The sample that the denoiser is to be asked about, in place of the sampler's own.

        Args:
            call: which call.
            sample: what the sampler asks about.
            share: how much of its sample and of the output the sampler makes use of, where
                something else is blended in on both ways; of a shape that broadcasts. All, if None.
        """
        self._share = share
        corrected = _plus(sample, _part(share, self._corrections.at(call)))
        self._see(corrected)
        return corrected

    def answer(
        self, call: int, mask: list[bool], outputs: Sequence[Tensor] | None, sample: Tensor
    ) -> list[Tensor]:
        """What the sampler is told, one tensor per output of the call.

        Args:
            call: which call.
            mask: for each sample, whether `outputs` were computed for it.
            outputs: the denoiser's, with anything in the other samples' rows; None if for none.
            sample: what `enter` gave.
        """
        # where no errors are looked at, nothing need be measured anew: a plan knows all calls
        self.turned = self._policy.observes == "errors" and self._adds_noise_first_after(call)
        values = self._values(call, mask, outputs, sample)
        filled = self._complete(call, mask, values, sample)
        self._last = values
        moved = self._backfill(call, mask, filled, sample)
        if moved is not None:
            sample = _plus(sample, moved)
            filled = [
                forecaster.follow(call, value, moved)
                for forecaster, value in zip(self._forecasters, filled, strict=True)
            ]
        pending = [
            self._policy.backfill and known and not computed
            for known, computed in zip(self.forecaster.known, mask, strict=True)
        ]
        for forecaster, value in zip(self._forecasters, filled, strict=True):
            forecaster.remember(call, mask, value, sample)
        if any(pending):
            self._skipped.append(_Skipped(call, sample, self._share, filled, pending))
        if outputs is not None and all(mask) and moved is None:
            return list(outputs)
        return [self._output(call, value, sample) for value in filled]

    def leave(self, result: Tensor) -> Tensor:
        """The loop's result with what it lacks."""
        return _plus(result, self._corrections.at(self._response.calls))

    def _adds_noise_first_after(self, call: int) -> bool:
        return not self._noise[call] and any(self._noise[call + 1 : call + 2])

    def _see(self, sample: Tensor) -> None:
        if self._policy.observes != "changes":
            return
        if self._before is not None:
            difference = (sample.float() - self._before.float()).abs()
            self.changes = difference.reshape(self._samples, -1).mean(dim=1)
        self._before = sample

    def _values(
        self, call: int, mask: list[bool], outputs: Sequence[Tensor] | None, sample: Tensor
    ) -> list[Tensor]:
        """What is forecast, of the computed rows; the last known of the others."""
        if outputs is None:
            return self._last
        values = [self._value(call, output, sample) for output in outputs]
        if not self._last:
            return values
        return [select_rows(mask, v, last) for v, last in zip(values, self._last, strict=True)]

    def _complete(
        self, call: int, mask: list[bool], values: list[Tensor], sample: Tensor
    ) -> list[Tensor]:
        self.errors = None
        observes = self._policy.observes == "errors" and any(mask)
        if all(mask) and not observes and not self.forecaster.is_cautious:
            return values
        filled = []
        for forecaster, value in zip(self._forecasters, values, strict=True):
            forecast = forecaster.forecast(call, mask, value, sample)
            if observes:
                error = forecaster.relative_error(value, forecast)
                self.errors = error if self.errors is None else torch.maximum(self.errors, error)
            filled.append(select_rows(mask, value, forecast))
        return filled

    def _backfill(
        self, call: int, mask: list[bool], values: list[Tensor], sample: Tensor
    ) -> Tensor | None:
        """Interpolates what was skipped before; how far that moves the present sample."""
        due = [
            [waiting and computed for waiting, computed in zip(each.pending, mask, strict=True)]
            for each in self._skipped
        ]
        if not any(map(any, due)):
            return None
        targets = [
            forecaster.value(call, value, sample)
            for forecaster, value in zip(self._forecasters, values, strict=True)
        ]
        moves = Corrections(self._response)
        for each, known_now in zip(self._skipped, due, strict=True):
            told = [self._output(each.call, value, each.sample) for value in each.values]
            each.sample = _plus(each.sample, _part(each.share, moves.at(each.call)))
            if any(known_now):
                each.values = self._interpolated(each, known_now, call, targets)
            for m, (value, before) in enumerate(zip(each.values, told, strict=True)):
                change = _minus(self._output(each.call, value, each.sample), before)
                moves.add((each.call, m), _part(each.share, change))
                self._corrections.add((each.call, m), _part(each.share, change))
            each.pending = [
                waiting and not now for waiting, now in zip(each.pending, known_now, strict=True)
            ]
        self._skipped = [each for each in self._skipped if any(each.pending)]
        self._corrections.merge(call + 1)
        return _part(self._share, moves.at(call))

    def _interpolated(
        self, each: _Skipped, known_now: list[bool], call: int, targets: list[Tensor]
    ) -> list[Tensor]:
        """The values of a skipped call, for the samples that are known on both sides of it now."""
        return [
            select_rows(
                known_now,
                forecaster.interpolate(each.call, call, target, value, each.sample),
                value,
            )
            for forecaster, target, value in zip(
                self._forecasters, targets, each.values, strict=True
            )
        ]

    def _value(self, call: int, output: Tensor, sample: Tensor) -> Tensor:
        a, b = self._exchange[call]
        if (a, b) == (0.0, 1.0):
            return output
        return (a * _single(sample) + b * _single(output)).to(output.dtype)

    def _output(self, call: int, value: Tensor, sample: Tensor) -> Tensor:
        a, b = self._exchange[call]
        if (a, b) == (0.0, 1.0):
            return value
        return ((_single(value) - a * _single(sample)) / b).to(value.dtype)


def _single(tensor: Tensor) -> Tensor:
    """In single precision at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _plus(sample: Tensor, move: Tensor | None) -> Tensor:
    return sample if move is None else (_single(sample) + move).to(sample.dtype)


@overload
def _part(share: Tensor | None, change: Tensor) -> Tensor: ...


@overload
def _part(share: Tensor | None, change: Tensor | None) -> Tensor | None: ...


def _part(share: Tensor | None, change: Tensor | None) -> Tensor | None:
    return change if share is None or change is None else share * change


def _minus(output: Tensor, before: Tensor) -> Tensor:
    return _single(output) - _single(before)
