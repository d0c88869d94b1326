"""What could have been measured of a model, by a formula."""

from __future__ import annotations

from typing import Any

import torch

from adaptive_diffusion import NoiseSchedule
from adaptive_diffusion.numerics.statistics import Statistics

__all__ = ["statistics_on"]


def statistics_on(schedule: NoiseSchedule, length: float = 0.3, **changes: Any) -> Statistics:
    """Of outputs that are the less alike, the farther apart they stand; `length` of the loop."""
    at = torch.tensor(schedule.coordinates, dtype=torch.float64)
    apart = (at[:, None] - at) / (at.max() - at.min()).clamp(min=1e-9) / length
    steps, gains = len(schedule), schedule.gains
    values: dict[str, Any] = {
        "coordinates": schedule.coordinates,
        "gains": gains,
        "kernel": torch.exp(-apart.square() / 2) + 0.5,
        "moves": tuple(-gain for gain in gains),
        "effects": tuple(gain * (1 + k / steps) for k, gain in enumerate(gains)),
        "responses": tuple(0.3 + k / steps for k in range(steps)),
        "deviations": (0.2,) * steps,
    }
    return Statistics(**values | changes)
