"""`nfe=n` is kept with every scheduler, and in every loop of one's own."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from schedulers import SCHEDULERS, generate, pipeline_with
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import AdaptiveDenoiser, Planned
from adaptive_diffusion.measurement import measure

STEPS = 9


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_gets_its_calls(name: str) -> None:
    pipe = pipeline_with(name)
    for nfe in (2, 5):
        with ad.accelerate(pipe, nfe=nfe) as made:
            assert generate(pipe, batch=2, steps=STEPS).isfinite().all()
        assert made.report.nfe == [nfe, nfe]
        assert made.report.notes == []


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++", "euler_ancestral", "heun", "pndm"])
def test_a_measured_loop_gets_its_calls(name: str) -> None:
    pipe = pipeline_with(name)
    runs = [partial(generate, pipe, steps=STEPS, seed=seed) for seed in (0, 1)]
    loops, _ = measure(pipe, runs, disturbed=1)
    for steps, nfe in ((STEPS, 4), (STEPS + 3, 5)):
        with ad.accelerate(pipe, Planned(nfe, loops)) as made:
            assert generate(pipe, steps=steps).isfinite().all()
        assert made.report.nfe == [nfe]


@pytest.mark.parametrize("nfe", [2, 7, STEPS, 30])
def test_a_loop_of_ones_own_gets_its_calls(nfe: int) -> None:
    denoise = AdaptiveDenoiser(lambda x, t: torch.sin(x) * t, policy=Planned(nfe))
    x = torch.randn(2, 3, 4, 4)
    denoise.start([1 - k / STEPS for k in range(STEPS)])
    for k in range(STEPS):
        x = x - 0.1 * denoise(x, 1 - k / STEPS)
    assert denoise.report().nfe == [min(nfe, STEPS)] * 2
    too_many = f"none of {STEPS} steps skipped: {nfe} calls were asked for"
    assert denoise.report().notes == ([too_many] if nfe > STEPS else [])


@pytest.mark.parametrize("change", [3, 4, 6])
def test_a_change_on_the_way_takes_no_further_call(change: int) -> None:
    """What is asked changes: that step is computed, and counts."""
    denoise = AdaptiveDenoiser(lambda x, t, word: torch.sin(x) * t + word, policy=Planned(5))
    x = torch.randn(1, 3, 4, 4)
    denoise.start([1 - k / STEPS for k in range(STEPS)])
    for k in range(STEPS):
        x = x - 0.1 * denoise(x, 1 - k / STEPS, word=torch.full((1, 1, 1, 1), float(k >= change)))
    report = denoise.report()
    assert report.mask[0][change]
    assert report.nfe == [5]


@pytest.mark.parametrize("nfe", [3, 6])
def test_a_sampler_as_it_is_gets_its_calls(nfe: int) -> None:
    sigmas = torch.linspace(10, 0, STEPS + 1)

    def euler(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
        for sigma, following in pairwise(sigmas):
            clean = model(x, sigma * x.new_ones(len(x)))
            x = x + (x - clean) / sigma * (following - sigma)
        return x

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    result, report = ad.run_loop(
        lambda model: euler(model, 10 * torch.ones(1, 3, 4, 4), sigmas),
        denoise,
        levels="sigma",
        predicts="sample",
        policy=Planned(nfe),
    )
    assert result.isfinite().all()
    assert report.nfe == [nfe]
