"""What the levels of a sampler's calls say about them.

A solver of several stages visits levels more than once, or out of order. Where it does, the
coordinates are the nearest ones that do not go back (isotonic regression, by pooling of adjacent
violators; Barlow et al., "Statistical Inference under Order Restrictions", 1972), spread evenly
where that makes them equal. Each call then gets the gain of a first-order step from its coordinate
to the next: so the stages of a step share its gain.

A sampler may answer an output more strongly than that. One that adds noise does so twice as
strongly (Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations",
ICLR 2021, equations 6 and 13: the reverse process and the probability flow), but it also takes
errors out again. What goes beyond raises the gain: a high order under noise, or a guidance that the
sampler applies by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import (
    PREDICTIONS,
    NoiseSchedule,
    is_monotonic,
)

__all__ = ["Exchange", "amplification", "call_schedule", "exchange_of"]

Exchange = tuple[float, float]
"""`(A, B)` of the value `A x + B u` that is forecast for an output u at the sample x."""

_SMALLEST_LEVEL = 1e-3
_END = (1.0, 0.0)  # where a loop leads: the clean sample
_STRONG = 2.0  # an answer that is stronger than a first-order step's by more raises the gain
_EQUAL = 1e-6  # coordinates that differ by less are rounding

# How much of the predicted noise an output is, by the ratio of noise to signal.
_FACTORS: dict[str, Callable[[float], float]] = {
    "epsilon": lambda ratio: 1.0,
    "v_prediction": lambda ratio: 1 / math.hypot(1.0, ratio),
}


def exchange_of(
    levels: Sequence[tuple[float, float]], prediction: str, forecast: str | None = None
) -> tuple[str, list[Exchange]]:
    """What is forecast, and how it is made from the outputs of each call.

    Args:
        levels: `(alpha, sigma)` of every call.
        prediction: what the outputs are, a key of `PREDICTIONS`.
        forecast: what else to forecast if they are clean samples, which hardly move where most is
            decided. By default the velocity under flow matching, and the noise elsewhere.
    """
    if prediction != "sample":
        return prediction, [(0.0, 1.0)] * len(levels)
    if forecast is None:
        forecast = "flow_prediction" if _is_flow(levels) else "epsilon"
    terms = [PREDICTIONS[forecast](alpha, _held(sigma)) for alpha, sigma in levels]
    return forecast, [(-a / b, 1 / b) for a, b, _ in terms]


def call_schedule(
    levels: Sequence[tuple[float, float]], prediction: str, held: LinearResponse
) -> NoiseSchedule:
    """The schedule of a sampler that calls its model at these levels.

    Args:
        levels: `(alpha, sigma)` of every call.
        prediction: what is forecast, a key of `PREDICTIONS`.
        held: how the samples depend on what is forecast, `LinearResponse.held`.

    Returns:
        The schedule; the uniform one, where the coordinates can't be told apart.
    """
    effects = held.matrix[-1].abs().sum(dim=1).tolist()  # what of each call is in the result
    # log(alpha / sigma), or -sigma for flow matching: both rise from noise to data
    flow = prediction == "flow_prediction"
    at = _rising([-_held(s) if flow else math.log(_held(a) / _held(s)) for a, s in [*levels, _END]])
    if flow:
        coordinates = [-each for each in at]
        scales = [math.hypot(1 - b, b) for b in coordinates[1:]]
        ways = [abs(b - a) for a, b in itertools.pairwise(coordinates)]
    else:
        coordinates, ratios = at, [math.exp(-each) for each in at]
        scales = [math.hypot(1.0, b) for b in ratios[1:]]
        ways = [abs(b - a) * _FACTORS[prediction](a) for a, b in itertools.pairwise(ratios)]
    if not is_monotonic(coordinates):
        return NoiseSchedule.uniform(len(levels))
    single = [
        NoiseSchedule.from_levels([alpha, 1.0], [sigma, 0.0], prediction) for alpha, sigma in levels
    ]
    return NoiseSchedule(
        tuple(coordinates[:-1]),
        tuple(
            max(way, effect / _STRONG) / scale
            for way, effect, scale in zip(ways, effects, scales, strict=True)
        ),
        tuple(each.noise[0] for each in single),
        tuple(each.clean[0] for each in single if each.clean),
        tuple(each.velocity[0] for each in single if each.velocity),
        None if flow else tuple(each.scales[0] for each in single if each.scales),
        held,
    )


def amplification(
    levels: Sequence[tuple[float, float]], prediction: str, response: LinearResponse
) -> float:
    """How strongly a long step answers the noise that it is told, beside one of first order.

    Long is a step that at least halves the noise. A multistep solver draws the difference of its
    last outputs out over it, and with them their errors, and little noise is left in which they
    could vanish.

    Args:
        levels: `(alpha, sigma)` of every call.
        prediction: what the outputs are, a key of `PREDICTIONS`.
        response: how the samples depend on them.

    Returns:
        The largest of all long steps; one, if there is none.
    """
    flow = _is_flow(levels)
    scales = [1.0 if flow else _held(alpha) for alpha, _ in levels]
    ratios = [_held(sigma) / scale for (_, sigma), scale in zip(levels, scales, strict=True)]
    terms = []
    for (alpha, sigma), scale in zip(levels, scales, strict=True):
        a, b, _ = PREDICTIONS[prediction](alpha, _held(sigma))
        terms.append(((1 - scale * a) / _held(sigma), -scale * b / _held(sigma)))
    rows = (
        response.held(terms).matrix[:-1] / torch.tensor(scales, dtype=torch.float64)[:, None, None]
    )
    answers = rows.diff(dim=0).abs().sum(dim=(1, 2)).tolist()
    return max(
        (
            answer / (before - after)
            for answer, before, after in zip(answers, ratios[:-1], ratios[1:], strict=True)
            if before > 2 * after
        ),
        default=1.0,
    )


def _is_flow(levels: Sequence[tuple[float, float]]) -> bool:
    return all(abs(alpha + sigma - 1) < 1e-4 for alpha, sigma in levels)


def _held(level: float) -> float:
    return max(level, _SMALLEST_LEVEL)


def _rising(values: Sequence[float]) -> list[float]:
    """The nearest values that only rise, equal ones spread over the way to the next."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]) - _EQUAL:
            pools[-2:] = [pools[-2] + pools[-1]]
    means = [_mean(pool) for pool in pools]
    ends = [*means[1:], means[-1] + 1.0]
    return list(
        itertools.chain.from_iterable(
            [mean + (end - mean) * i / len(pool) for i in range(len(pool))]
            for pool, mean, end in zip(pools, means, ends, strict=True)
        )
    )


def _mean(pool: Sequence[float]) -> float:
    return sum(pool) / len(pool)
