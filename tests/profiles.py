"""Profiles without a calibration: for what reads them, and makes nothing with them."""

from __future__ import annotations

import torch

from adaptive_diffusion.evidence import Evidence, Goal
from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.numerics.statistics import Statistics
from adaptive_diffusion.profiles import Profile

__all__ = ["REACHED", "measured_profile", "tolerance_profile"]

REACHED = {3: 31.0, 4: 42.0, 6: 55.0}
"""The mean PSNR in dB that the plans of a measured profile reach, by their number of calls."""

_STEPS = 8
_SCHEDULER = "DDIMScheduler, epsilon"


def measured_profile(seed: int = 0, noisy: bool = False) -> Profile:
    """Of eight steps; with another seed, something else was measured."""
    outputs = torch.randn(_STEPS, 32, generator=torch.manual_seed(seed), dtype=torch.float64)
    even = tuple(1 / _STEPS for _ in range(_STEPS))
    statistics = Statistics(
        coordinates=tuple(map(float, range(_STEPS))),
        gains=even,
        kernel=outputs @ outputs.T / 32,
        moves=even,
        effects=even,
        responses=even,
        deviations=even,
        noisy=noisy,
    )
    plans = [
        FoundPlan(nfe, (*range(nfe - 1), _STEPS - 1), 1e-4, _evidence(nfe, psnr))
        for nfe, psnr in REACHED.items()
    ]
    tried = FoundPlan(5, (0, 1, 2, 3, 7), 1e-4)
    return _profile(
        nfe=4,
        measured=Measured(((statistics,),), 3.0, "float32", (*plans, tried)),
        scheduler="DPMSolverMultistepScheduler, epsilon, sde-dpmsolver++" if noisy else _SCHEDULER,
    )


def tolerance_profile(tolerance: float = 0.011) -> Profile:
    """Of a model that could not be measured."""
    return _profile(tolerance=tolerance)


def _profile(scheduler: str = _SCHEDULER, **found: object) -> Profile:
    return Profile(
        model="StableDiffusionPipeline, UNet2DConditionModel, 01234567",
        scheduler=scheduler,
        steps=(_STEPS, _STEPS),
        goal=Goal("psnr", 40.0),
        evidence=_evidence(4, REACHED[4]),
        versions={"torch": "2.4.0"},
        date="2026-01-31",
        **found,  # type: ignore[arg-type]
    )


def _evidence(nfe: int, psnr: float) -> Evidence:
    return Evidence(8, 8, psnr, psnr - 2, psnr - 4.5, None, None, nfe, _STEPS / nfe)
