"""Modular pipelines: made of blocks, guided by a component, and returning a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import ClassifierFreeGuidance, EulerAncestralDiscreteScheduler, LCMScheduler
from schedulers import count_calls
from tiny_pipelines import ALL_PIPELINES, BETAS, run

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule, StepsError

MASK = [True, True, False, True, False, True]
INPUTS = ALL_PIPELINES["StableDiffusionXLModularPipeline"].inputs


@pytest.fixture
def pipe() -> Iterator[Any]:
    made = ALL_PIPELINES["StableDiffusionXLModularPipeline"].make()
    yield made
    ad.disable(made)


def test_the_state_that_a_call_returns_is_as_without_acceleration(pipe: Any) -> None:
    options = {"num_inference_steps": 6, "output_type": "pt"}
    generator = torch.Generator()
    plain = pipe(**INPUTS(1), **options, generator=generator.manual_seed(0))
    with ad.accelerate(pipe, tolerance=0):
        state = pipe(**INPUTS(1), **options, generator=generator.manual_seed(0))
    assert type(state) is type(plain)
    assert state.values.keys() == plain.values.keys()
    assert torch.equal(state.get("latents"), plain.get("latents"))
    assert torch.equal(state.get("images"), plain.get("images"))


def test_a_state_can_be_gone_on_from(pipe: Any) -> None:
    """The second call starts with the first one's embeddings, and is a generation of its own."""
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        state = pipe(**INPUTS(1), num_inference_steps=6, output_type="pt")
        pipe(state=state, output="latents")
        assert accelerated.report.mask == [MASK]


def test_a_guider_may_be_put_in_between_calls(pipe: Any) -> None:
    calls = count_calls(pipe.unet)
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        run(pipe, INPUTS(1))
        assert len(calls) == 2 * sum(MASK)
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=2.0))
        run(pipe, INPUTS(1))
        assert len(calls) == 4 * sum(MASK)


@pytest.mark.parametrize("scheduler", [EulerAncestralDiscreteScheduler, LCMScheduler])
def test_a_scheduler_may_be_put_in_while_enabled(pipe: Any, scheduler: Any) -> None:
    ad.enable(pipe, FixedSchedule(MASK))
    pipe.update_components(scheduler=scheduler(**BETAS))
    assert run(pipe, INPUTS(1)).isfinite().all()
    assert ad.report(pipe).mask == [MASK]


def test_a_call_has_steps(pipe: Any) -> None:
    with ad.accelerate(pipe), pytest.raises(StepsError, match="at least 1"):
        run(pipe, INPUTS(1), steps=0)
