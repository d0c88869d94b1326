"""What a loop's measured response and the levels of its calls say about them.

A solver of several stages visits levels more than once, or out of order. Where it does, the
coordinates are the nearest ones that do not go back (isotonic regression, by pooling of adjacent
violators; Barlow et al., "Statistical Inference under Order Restrictions", 1972), spread evenly
where that makes them equal. Gains are not taken from the levels but from the response: so they are
right for solvers of any order, which weigh the outputs of their stages and of earlier steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from torch import Tensor

from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule, is_monotonic

__all__ = ["Exchange", "call_schedule", "exchange_of"]

Exchange = tuple[float, float]
"""`(A, B)` of the value `A x + B u` that is forecast for an output u at the sample x."""

_SMALLEST_LEVEL = 1e-3
_END = (1.0, 0.0)  # where a loop leads: the clean sample


def exchange_of(
    levels: Sequence[tuple[float, float]], prediction: str
) -> tuple[str, list[Exchange]]:
    """What is forecast, and how it is made from the outputs of each call.

    Forecast is what the model predicts, unless that is the clean sample, which moves little where
    most happens: then it is the velocity under flow matching, and the noise elsewhere.
    """
    if prediction != "sample":
        return prediction, [(0.0, 1.0)] * len(levels)
    if all(abs(alpha + sigma - 1) < 1e-4 for alpha, sigma in levels):
        return "flow_prediction", [(1 / _held(s), -1 / _held(s)) for _, s in levels]
    return "epsilon", [(1 / _held(s), -alpha / _held(s)) for alpha, s in levels]


def call_schedule(
    levels: Sequence[tuple[float, float]],
    prediction: str,
    exchange: Sequence[Exchange],
    response: LinearResponse,
) -> NoiseSchedule:
    """The schedule of a loop that calls its model at these levels, `(alpha, sigma)` each.

    Where the coordinates can't be told apart it is the uniform one.
    """
    single = [
        NoiseSchedule.from_levels([alpha, 1.0], [sigma, 0.0], prediction) for alpha, sigma in levels
    ]
    end = _coordinate(_END, prediction)
    coordinates = _rising([*(_coordinate(level, prediction) for level in levels), end])[:-1]
    if prediction == "flow_prediction":
        coordinates = [-at for at in coordinates]
    if not is_monotonic(coordinates):
        return NoiseSchedule.uniform(len(levels))
    scales = [alpha if prediction == "epsilon" else 1.0 for alpha, _ in levels]
    return NoiseSchedule(
        tuple(coordinates),
        tuple(_gains([*levels, _END], [*scales, 1.0], response.exchanged(list(exchange)))),
        tuple(each.noise[0] for each in single),
        tuple(each.clean[0] for each in single if each.clean),
        tuple(each.velocity[0] for each in single if each.velocity),
    )


def _held(sigma: float) -> float:
    return max(sigma, _SMALLEST_LEVEL)


def _coordinate(level: tuple[float, float], prediction: str) -> float:
    """Where a level stands; rising from noise to data."""
    alpha, sigma = level
    if prediction == "flow_prediction":
        return -_held(sigma)
    return math.log(_held(alpha) / _held(sigma))


def _rising(values: Sequence[float]) -> list[float]:
    """The nearest values that only rise."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]) - 1e-6:
            pools[-2:] = [pools[-2] + pools[-1]]
    means = [_mean(pool) for pool in pools]
    ends = [*means[1:], 2 * means[-1] - means[-2] if len(means) > 1 else means[-1] + 1.0]
    return list(
        itertools.chain.from_iterable(
            [mean + (end - mean) * i / len(pool) for i in range(len(pool))]
            for pool, mean, end in zip(pools, means, ends, strict=True)
        )
    )


def _mean(pool: list[float]) -> float:
    return sum(pool) / len(pool)


def _gains(
    levels: Sequence[tuple[float, float]], scales: Sequence[float], effects: Tensor
) -> list[float]:
    """How far each output moves the result, or a sample before it, in variance-preserving units."""
    gains = []
    for call in range(effects.shape[1]):
        shares = [
            abs(float(effects[row, call])) * scales[call + 1] / scales[row]
            for row in range(call + 1, len(effects))
        ]
        gains.append(GAIN(shares) / math.hypot(*levels[call + 1]))
    return gains


GAIN: Callable[[Sequence[float]], float] = max
