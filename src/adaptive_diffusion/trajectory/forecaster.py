"""What stands in for an output that was not computed, and how good it would have been."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptive_diffusion.numerics.interpolation import Polynomials
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.rows import rowwise_norm, select_rows
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory.history import History
from adaptive_diffusion.trajectory.trend import Trend

__all__ = ["Forecaster"]

_QUIET = 2  # steps without noise until none is expected: a loop's last one may draw none
_MOSTLY_NOISE = 0.5  # above this share of noise a sample is not yet pulled to one picture


class Forecaster:
    """Forecasts, compares and interpolates the outputs of one sequence of steps.

    A forecast is a weighted sum of the last outputs. If the policy brings a model's statistics, the
    weights follow from these. Otherwise they are a line's.

    Without fresh noise the denoiser's output itself is forecast, along the line through the last
    two. If the policy is cautious, the last output is reused after the sample's outputs went back
    on such a forecast. Where the solver adds noise, lines through outputs are wrong, and the
    predicted velocity is reused: that is half-way between reusing the clean sample, as if fresh
    noise could not change the picture, and reusing the noise, as if all of it became picture.
    """

    def __init__(
        self, policy: Policy, schedule: NoiseSchedule, samples: int, stream: int = 0
    ) -> None:
        self._policy = policy
        self._schedule = schedule
        self._samples = samples
        self._statistics = policy.statistics_of(schedule, stream)
        self._weights = self._statistics or Polynomials(schedule.coordinates)
        self._history: History | None = None
        self._trend = Trend(samples)
        self._noisy = False
        self._quiet_steps = 0

    @property
    def nodes(self) -> int:
        """How many computed outputs a forecast goes through."""
        return 2 if self._policy.extrapolates and not self._noisy else 1

    @property
    def is_cautious(self) -> bool:
        """Whether computed outputs say if the next forecast is followed.

        Not where it has been measured how outputs answer a displaced sample: there it is known.
        """
        measured = self._statistics is not None and self._statistics.has_answers
        return self._policy.cautious and not measured and not self._noisy

    @property
    def known(self) -> list[bool]:
        """For each sample, whether an output of it has been computed in this sequence."""
        return [False] * self._samples if self._history is None else self._history.known

    @property
    def goes_by_samples(self) -> bool:
        """Whether what is remembered depends on the sample, too, or may in this step."""
        return self._noisy or self._history is None

    def restart(self) -> None:
        """Forgets all outputs, and whether they kept to their trend."""
        self._history, self._trend = None, Trend(self._samples)

    def hear_of_noise(self, drawn: bool) -> bool:
        """Whether the solver has added noise in this step decides what is forecast from now on.

        The velocity where it adds noise, the output where it has added none for two steps. Returns
        whether that is a turn: then all is forgotten.
        """
        self._quiet_steps = 0 if drawn else self._quiet_steps + 1
        noisy = drawn or (self._noisy and self._quiet_steps < _QUIET)
        turned = noisy != self._noisy
        if not self._policy.extrapolates or self._schedule.velocity is None or not turned:
            return False
        self._noisy = noisy
        self.restart()
        return True

    def forecast(self, step: int, mask: list[bool], output: Tensor, sample: Tensor) -> Tensor:
        """What `step`'s output was expected to be, for every sample.

        `output` holds the computed output of the samples in `mask`. For the others it is the last
        one, reused, as the pipeline has combined it at this step: the forecast starts from there,
        so that it follows a guidance scale that changes on the way.
        """
        if self._history is None:
            return output
        if self._noisy:
            return self._output_of(step, self._velocity(step), output, sample)
        assert self._history.latest is not None
        base = select_rows(mask, self._history.latest, output)
        if not self._policy.extrapolates:
            return base
        change = self._change(step)
        if change is None:
            return base
        forecast = self._trend.move(base, change)
        if self.is_cautious and any(mask):
            self._trend.see(mask, output.float() - base.float(), change)
        return forecast

    def relative_error(self, output: Tensor, forecast: Tensor) -> Tensor:
        """`‖output − forecast‖ / ‖output‖` of each sample; NaN where there was no forecast."""
        if self._history is None:
            return torch.full((self._samples,), torch.nan, device=output.device)
        difference = rowwise_norm(output.float() - forecast.float(), self._samples)
        return difference / rowwise_norm(output, self._samples)

    def value(self, step: int, output: Tensor, sample: Tensor) -> Tensor:
        """What is remembered of an output: itself, or the velocity it predicts."""
        if not self._noisy:
            return output
        mean = output[:, : sample.shape[1]]  # learned-variance channels stand behind the mean
        return self._schedule.velocity_of(step, mean, sample)

    def interpolate(
        self, at: int, step: int, value: Tensor, output: Tensor, sample: Tensor
    ) -> Tensor:
        """The output of the skipped step `at`, between those before it and `value` at `step`.

        `output` and `sample` are the skipped step's own. With little noise left, that forecast
        stands where the computed output has gone back on its trend: a parabola through it would
        only follow the swing.
        """
        assert self._history is not None
        between = self._history.between(value, step, lambda nodes: self._weights.weights(nodes, at))
        if self._noisy:
            return self._output_of(at, between, output, sample)
        if self._statistics is not None or self._schedule.noise[step] >= _MOSTLY_NOISE:
            return between
        return self._trend.choose(between, output)

    def follow(self, step: int, output: Tensor, correction: Tensor) -> Tensor:
        """`output`, computed for a sample that has since been moved by `correction`.

        By as much as was measured. Where nothing was, what the denoiser has said of the picture
        stays: the same clean sample is predicted.
        """
        response = self._response(step)
        if response is None:
            return output
        channels = correction.shape[1]
        followed = output.clone()
        followed[:, :channels] += response * correction
        return followed

    def remember(self, step: int, mask: list[bool], output: Tensor, sample: Tensor) -> None:
        """Takes in the outputs of the samples in `mask`, computed at `step`."""
        if not any(mask):
            return
        if self._history is None:
            self._history = History(self._samples, self._weights.remembers)
        value = self.value(step, output, sample).detach()
        self._history.remember(mask, value, step)

    def _change(self, step: int) -> Tensor | None:
        assert self._history is not None
        return self._history.change(lambda nodes: self._weights.weights(nodes, step))

    def _velocity(self, step: int) -> Tensor:
        """What is forecast where the solver adds noise: of velocities, a line is no better."""
        assert self._history is not None
        assert self._history.latest is not None
        change = None if self._statistics is None else self._change(step)
        return self._history.latest if change is None else self._history.latest + change

    def _response(self, step: int) -> float | None:
        if self._statistics is not None:
            response = self._statistics.responses[step]
            if not self._noisy:
                return response
            assert self._schedule.velocity is not None
            a, b = self._schedule.velocity[step]  # what was measured is the velocity's response
            return (response - a) / b
        if self._schedule.clean is None:
            return None
        a, b = self._schedule.clean[step]
        return -a / b

    def _output_of(self, step: int, velocity: Tensor, output: Tensor, sample: Tensor) -> Tensor:
        mean = self._schedule.output_of(step, velocity, sample)
        variance = output[:, sample.shape[1] :]
        return torch.cat([mean, variance], dim=1) if variance.numel() else mean
