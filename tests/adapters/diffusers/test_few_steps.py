"""Models distilled to a few steps: they work, little is skipped, and the report says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler, TCDScheduler
from schedulers import count_calls, generate
from tiny_pipelines import BETAS

import adaptive_diffusion as ad
from adaptive_diffusion import ErrorControlled, FixedSchedule, Policy, ThirdOrder

Tiny = Callable[[str], Any]


@pytest.mark.parametrize("policy", [ErrorControlled(1e9), ThirdOrder(1e9)], ids=["ours", "paper"])
@pytest.mark.parametrize("scheduler", [LCMScheduler, TCDScheduler])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_too_few_steps_are_all_computed_and_the_report_explains(
    steps: int, scheduler: Any, policy: Policy, tiny: Tiny
) -> None:
    pipe = tiny("sd15")
    pipe.scheduler = scheduler(**BETAS)
    plain = generate(pipe, steps=steps)
    calls = count_calls(pipe.unet)
    with ad.accelerate(pipe, policy) as accelerated:
        assert torch.equal(generate(pipe, steps=steps), plain)
    assert len(calls) == steps
    (note,) = accelerated.report.notes
    assert f"computes all of {steps} steps" in note
    assert "5 or more" in note
    assert note in str(accelerated.report)


@pytest.mark.parametrize("policy", [ErrorControlled(1e9), ThirdOrder(1e9)], ids=["ours", "paper"])
def test_the_number_of_steps_that_the_note_names_is_enough(policy: Policy, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, policy) as accelerated:
        generate(pipe, steps=policy.fewest_steps)
    assert not all(accelerated.report.mask[0])
    assert accelerated.report.notes == []


def test_a_mask_may_skip_of_few_steps_too(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    pipe.scheduler = LCMScheduler(**BETAS)
    mask = [True, False, True, True]
    with ad.accelerate(pipe, FixedSchedule(mask)) as accelerated:
        assert generate(pipe, steps=4).isfinite().all()
    assert accelerated.report.mask == [mask]
    assert accelerated.report.notes == []
