"""LazyCache in a pipeline: what a skipped step gets, in whatever scale the scheduler keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.bench.rivals.lazy_cache import LazyCache

SCHEDULERS = [
    DDIMScheduler(clip_sample=False),
    DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    DPMSolverMultistepScheduler(),
    EulerDiscreteScheduler(),
    EulerDiscreteScheduler(prediction_type="v_prediction"),
    HeunDiscreteScheduler(),
    FlowMatchEulerDiscreteScheduler(shift=3.0),
]


def _name(scheduler: Any) -> str:
    return f"{type(scheduler).__name__} {scheduler.config.get('prediction_type', 'flow')}"


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=_name)
def test_samples_are_brought_to_the_samplers_scale(scheduler: Any) -> None:
    """x_0 + sigma * noise, or (1 - sigma) x_0 + sigma * noise for flow matching."""
    scheduler.set_timesteps(10)
    rule = LazyCache(0.2)._rule(scheduler)
    assert rule is not None
    clean, noise = torch.tensor([[0.7]]), torch.tensor([[-1.3]])
    is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    for i in (0, 3, 7):
        t = scheduler.timesteps[i : i + 1]
        if is_flow:
            sigma = float(scheduler.sigmas[i])
            sample = scheduler.scale_noise(clean, t, noise)
            expected = (1 - sigma) * clean + sigma * noise
        else:
            share = scheduler.alphas_cumprod[int(t.round())]
            sigma = float(((1 - share) / share) ** 0.5)
            sample = scheduler.add_noise(clean, noise, t)
            expected = clean + sigma * noise
        torch.testing.assert_close(rule._entering(i, sample), expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("scheduler", SCHEDULERS[:-1], ids=_name)
def test_skips_within_the_run_alone(tiny: Callable[[str], Any], scheduler: Any) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1)
    pipe.scheduler = scheduler
    method = LazyCache(1e9)
    assert method.reason_against(pipe) is None
    with method.applied(pipe, 20) as work:
        assert run(pipe, inputs, steps=20).isfinite().all()
    if len(work.per_step) == 20:
        assert work.per_step == [1.0] * 4 + [0.0] * 15 + [1.0]
    else:  # a solver with two calls per step
        assert 0 < work.nfe < len(work.per_step) / 2


def test_a_constant_difference_loses_nothing(tiny: Callable[[str], Any]) -> None:
    """Of a model that predicts the noise, the difference is -sigma times its output."""
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1) | {"guidance_scale": 1.0}
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    shares = pipe.scheduler.alphas_cumprod
    computed: list[int] = []

    def answer(sample: torch.Tensor, t: torch.Tensor, *_: Any, **__: Any) -> Any:
        computed.append(int(t))
        sigma = float(((1 - shares[int(t)]) / shares[int(t)]) ** 0.5)
        return (torch.full_like(sample, 0.01 / sigma),)

    pipe.unet.forward = answer
    full = run(pipe, inputs, steps=20)
    computed.clear()
    with LazyCache(1e9).applied(pipe, 20):
        ours = run(pipe, inputs, steps=20)
    assert len(computed) == 5
    torch.testing.assert_close(ours, full, rtol=1e-5, atol=1e-4)


def test_a_prediction_of_the_clean_sample_is_not_known(tiny: Callable[[str], Any]) -> None:
    pipe = tiny("sd15")
    pipe.scheduler = DDIMScheduler(prediction_type="sample")
    assert "noise levels" in str(LazyCache(0.2).reason_against(pipe))
