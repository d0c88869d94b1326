r"""What the noise levels of a sampling loop say about its steps.

A sample is :math:`x_i = \alpha_i x_0 + \sigma_i \varepsilon`, in whatever scale the scheduler keeps
it: variance preserving, sigma space (:math:`\alpha = 1`), or flow matching
(:math:`\alpha = 1 - \sigma`). The levels give three numbers per step:

- the **coordinate** in which the denoiser's output is extrapolated: the log signal-to-noise ratio
  :math:`\lambda = \log(\alpha/\sigma)`, or :math:`\sigma` itself for flow matching;
- the **gain** :math:`g_i`: the coefficient of the output in the first-order update

  .. math:: x_{i+1} = \tfrac{\alpha_{i+1}}{\alpha_i} x_i
            + \bigl(\sigma_{i+1} - \tfrac{\alpha_{i+1}}{\alpha_i}\sigma_i\bigr)\,\varepsilon

  (Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, eq. 12 with no noise), divided by
  :math:`\sqrt{\alpha_{i+1}^2+\sigma_{i+1}^2}` so that it means the same in every scale;
- the **noise**: the share :math:`\sigma/(\alpha+\sigma)`, from one to zero.

And they say what an output :math:`e_i` predicts, as coefficients :math:`(A_i, B_i)` in
:math:`A_i x_i + B_i e_i`: the **clean sample** :math:`\hat x_0`, and the **velocity**
:math:`u = \hat\varepsilon - \hat x_0` of flow matching (Lipman et al., ICLR 2023), which any model
has in the coordinates :math:`x/(\alpha+\sigma)` and :math:`\sigma/(\alpha+\sigma)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from adaptive_diffusion.numerics.linear_response import LinearResponse

__all__ = ["PREDICTIONS", "NoiseSchedule", "is_monotonic"]


def _epsilon(alpha: float, sigma: float) -> tuple[float, float, float]:
    return 1 / alpha, -sigma / alpha, 1.0


def _velocity(alpha: float, sigma: float) -> tuple[float, float, float]:
    scale = math.hypot(alpha, sigma)
    return alpha / scale**2, -sigma / scale, alpha / scale


def _sample(alpha: float, sigma: float) -> tuple[float, float, float]:
    return 0.0, 1.0, alpha / sigma


def _flow(alpha: float, sigma: float) -> tuple[float, float, float]:
    return 1.0, -sigma, alpha


# A and B of the clean sample, and how much of the predicted noise is the output:
# epsilon = (...) x + factor * e, up to its sign.
PREDICTIONS: dict[str, Callable[[float, float], tuple[float, float, float]]] = {
    "epsilon": _epsilon,
    "v_prediction": _velocity,
    "sample": _sample,
    "flow_prediction": _flow,
}

_SMALLEST_LEVEL = 1e-3  # where the logarithm is cut off: a first or last level may be zero


@dataclass(frozen=True)
class NoiseSchedule:
    """What the noise levels say about each of a loop's N steps.

    Attributes:
        coordinates: where step i's output stands; N numbers, strictly monotonic.
        gains: how far step i's output moves the sample; N numbers, not negative.
        noise: the share of noise in what enters step i; N numbers from 0 to 1.
        clean: `(A, B)` of the clean sample, or None where the levels aren't known.
        velocity: `(A, B)` of the velocity, likewise.
        scales: how large a sample is, the root of alpha² + sigma²; None where the levels aren't
            known, and under flow matching, where all solvers keep samples alike.
        response: how the loop's samples depend on its outputs, where that was measured.

    Raises:
        ValueError: if the coordinates are not monotonic, or the lengths differ.
    """

    coordinates: tuple[float, ...]
    gains: tuple[float, ...]
    noise: tuple[float, ...]
    clean: tuple[tuple[float, float], ...] | None = None
    velocity: tuple[tuple[float, float], ...] | None = None
    scales: tuple[float, ...] | None = None
    response: LinearResponse | None = None

    def __post_init__(self) -> None:
        if not is_monotonic(self.coordinates):
            raise ValueError("coordinates must only rise or only fall, none standing twice")
        others = (self.gains, self.noise, self.clean, self.velocity, self.scales)
        if any(each is not None and len(each) != len(self) for each in others):
            raise ValueError("all that a schedule has needs N entries")
        if self.response is not None and self.response.calls != len(self):
            raise ValueError(f"the response of {self.response.calls} calls to {len(self)} steps")

    @classmethod
    def from_levels(
        cls, alphas: Sequence[float], sigmas: Sequence[float], prediction: str
    ) -> NoiseSchedule:
        """From the N levels that the denoiser sees and the one that the last step reaches.

        Args:
            alphas: N + 1 signal scales.
            sigmas: N + 1 noise scales.
            prediction: a key of `PREDICTIONS`.

        Second-order schedulers visit levels twice: such visits are spread evenly over the way to
        the next level, and share its gain.
        """
        levels = [
            (max(alpha, _SMALLEST_LEVEL), max(sigma, _SMALLEST_LEVEL))
            for alpha, sigma in zip(alphas, sigmas, strict=True)
        ]
        terms = [PREDICTIONS[prediction](*level) for level in levels[:-1]]
        if prediction == "flow_prediction":
            coordinates = [sigma for _, sigma in levels]
        else:
            coordinates = [math.log(alpha / sigma) for alpha, sigma in levels]
        gains = [
            _noise_gain(level, following) * factor
            for level, following, (_, _, factor) in zip(levels, levels[1:], terms, strict=False)
        ]
        for start, stop in _runs(coordinates[:-1]):
            first, following = coordinates[start], coordinates[stop]
            for i in range(start, stop):
                coordinates[i] = first + (following - first) * (i - start) / (stop - start)
            gains[start:stop] = [sum(gains[start:stop]) / (stop - start)] * (stop - start)
        if not is_monotonic(coordinates[:-1]):
            return cls.uniform(len(gains))
        return cls(
            tuple(coordinates[:-1]),
            tuple(gains),
            tuple(sigma / (alpha + sigma) for alpha, sigma in levels[:-1]),
            tuple((a, b) for a, b, _ in terms),
            tuple(
                _velocity_terms(level, a, b)
                for level, (a, b, _) in zip(levels, terms, strict=False)
            ),
            None
            if prediction == "flow_prediction"
            else tuple(math.hypot(alpha, sigma) for alpha, sigma in levels[:-1]),
        )

    @classmethod
    def uniform(cls, steps: int) -> NoiseSchedule:
        """For a loop whose levels aren't known: the step index is the coordinate.

        The way from noise to data is a quarter turn in variance-preserving units, and every step
        is taken to go the same share of it.
        """
        indices = range(steps)
        return cls(
            coordinates=tuple(float(i) for i in indices),
            gains=(math.pi / 2 / steps,) * steps,
            noise=tuple(1 - i / steps for i in indices),
        )

    def __len__(self) -> int:
        return len(self.coordinates)

    def tail(self, start: int) -> NoiseSchedule:
        """The schedule of a loop that starts at step `start` (image-to-image)."""
        return self._part(slice(start, None))

    def head(self, steps: int) -> NoiseSchedule:
        """The schedule of a loop that ends after so many steps, or with the schedule."""
        return self if steps >= len(self) else self._part(slice(steps))

    def _part(self, steps: slice) -> NoiseSchedule:
        return NoiseSchedule(
            self.coordinates[steps],
            self.gains[steps],
            self.noise[steps],
            None if self.clean is None else self.clean[steps],
            None if self.velocity is None else self.velocity[steps],
            None if self.scales is None else self.scales[steps],
            None if self.response is None else self.response.part(steps),
        )

    def velocity_of(self, step: int, output: Tensor, sample: Tensor) -> Tensor:
        """The velocity that `output` predicts for `sample` at `step`, in float32."""
        assert self.velocity is not None
        a, b = self.velocity[step]
        return a * sample.float() + b * output.float()

    def output_of(self, step: int, velocity: Tensor, sample: Tensor) -> Tensor:
        """The output that predicts `velocity` for `sample` at `step`, in the sample's dtype."""
        assert self.velocity is not None
        a, b = self.velocity[step]
        return ((velocity - a * sample.float()) / b).to(sample.dtype)


def _noise_gain(level: tuple[float, float], following: tuple[float, float]) -> float:
    """The coefficient of the predicted noise in the step from one level to the following."""
    (alpha, sigma), (alpha_next, sigma_next) = level, following
    return abs(sigma_next - sigma * alpha_next / alpha) / math.hypot(alpha_next, sigma_next)


def _velocity_terms(level: tuple[float, float], a: float, b: float) -> tuple[float, float]:
    """`(A, B)` of the velocity, from those of the clean sample at that level."""
    alpha, sigma = level
    return (1 - (alpha + sigma) * a) / sigma, -(alpha + sigma) * b / sigma


def _runs(values: Sequence[float]) -> list[tuple[int, int]]:
    """Start and stop of every run of equal values."""
    starts = [i for i in range(len(values)) if i == 0 or values[i] != values[i - 1]]
    return list(zip(starts, [*starts[1:], len(values)], strict=True))


def is_monotonic(values: Sequence[float]) -> bool:
    """Whether the values only rise or only fall, and none stands twice."""
    ordered = sorted(set(values))
    return list(values) in (ordered, ordered[::-1])
