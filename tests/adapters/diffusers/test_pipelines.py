"""Every kind of pipeline: skipped calls are not made, and come back when they are needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from schedulers import SCHEDULERS, count_calls, generate, inputs_for, relative_difference
from tiny_pipelines import TINY_PIPELINES, run

import adaptive_diffusion as ad
from adaptive_diffusion import ErrorControlled, FixedSchedule, Policy, ThirdOrder
from adaptive_diffusion.adapters.diffusers import components

Tiny = Callable[[str], Any]
STEPS = 6
MASK = [True, True, False, True, False, False]


def denoisers(pipe: Any, name: str) -> list[torch.nn.Module]:
    return [getattr(pipe, component) for component in TINY_PIPELINES[name].denoisers]


@pytest.mark.parametrize("name", sorted({*TINY_PIPELINES} - {"wan22"}))
@pytest.mark.parametrize("extrapolates", [True, False], ids=["forecast", "reuse"])
def test_a_fixed_schedule_is_obeyed_call_by_call(name: str, extrapolates: bool, tiny: Tiny) -> None:
    pipe, inputs = tiny(name), TINY_PIPELINES[name].inputs(1)
    calls = count_calls(*denoisers(pipe, name))
    plain = run(pipe, inputs, steps=STEPS)
    steps = 3 if name == "img2img" else STEPS  # the tail of the run
    per_step, in_full = len(calls) // steps, list(calls)
    assert len(calls) == per_step * steps
    calls.clear()

    mask = MASK[:steps]
    policy = FixedSchedule(mask, extrapolates=extrapolates, backfill=extrapolates)
    with ad.accelerate(pipe, policy) as accelerated:
        skipped = run(pipe, inputs, steps=STEPS)
    assert calls == in_full[: per_step * sum(mask)]
    assert all(row == mask for row in accelerated.report.mask)
    assert skipped.isfinite().all()
    assert 0 < relative_difference(skipped, plain) < 1


def test_a_second_denoiser_is_called_when_it_takes_over(tiny: Tiny) -> None:
    """Nothing can be forecast from another network's outputs: the step is computed."""
    pipe, inputs = tiny("wan22"), TINY_PIPELINES["wan22"].inputs(1)
    first, second = count_calls(pipe.transformer), count_calls(pipe.transformer_2)
    run(pipe, inputs, steps=STEPS)
    taking_over = len(first) // 2
    assert 0 < taking_over < STEPS
    first.clear()
    second.clear()

    planned = [i != taking_over and i != 1 for i in range(STEPS)]
    with ad.accelerate(pipe, FixedSchedule(planned)) as accelerated:
        run(pipe, inputs, steps=STEPS)
    obeyed = [i != 1 for i in range(STEPS)]
    assert accelerated.report.mask == [obeyed]
    assert len(first) == 2 * sum(obeyed[:taking_over])
    assert len(second) == 2 * sum(obeyed[taking_over:])


def test_a_controlnet_rests_while_every_sample_skips(tiny: Tiny) -> None:
    pipe, inputs = tiny("controlnet"), TINY_PIPELINES["controlnet"].inputs(2)
    unet, controlnet = count_calls(pipe.unet), count_calls(pipe.controlnet)
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        run(pipe, inputs, steps=STEPS)
    assert unet == controlnet == [4] * sum(MASK)


@pytest.mark.parametrize("policy", [ErrorControlled(1e9), ThirdOrder(1e9)], ids=["ours", "paper"])
def test_calls_are_those_that_the_report_names(policy: Policy, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    calls = count_calls(pipe.unet)
    with ad.accelerate(pipe, policy) as accelerated:
        generate(pipe, steps=20)
    assert len(calls) == accelerated.report.nfe[0] < 12
    assert accelerated.report.steps == 20


@pytest.mark.parametrize("scheduler", ["ddim", "heun"])
def test_first_three_and_last_steps_of_an_image_to_image_run_are_computed(
    scheduler: str, tiny: Tiny
) -> None:
    """It runs the tail of the scheduler's timesteps only."""
    pipe = tiny("img2img")
    pipe.scheduler = SCHEDULERS[scheduler]()
    with ad.accelerate(pipe, tolerance=1e9) as accelerated:
        run(pipe, TINY_PIPELINES["img2img"].inputs(1), steps=20)
    (mask,) = accelerated.report.mask
    assert mask[:3] == [True] * 3
    assert mask[-1]
    assert sum(mask) < len(mask)


@pytest.mark.parametrize("policy", [ErrorControlled(1e9), ThirdOrder(1e9)], ids=["ours", "paper"])
def test_an_output_that_is_not_a_number_stops_the_skipping(policy: Policy, tiny: Tiny) -> None:
    """Of its sample; the other one goes on as if it were alone."""
    pipe = tiny("sd15")
    inputs = inputs_for(pipe, 2)
    steps, struck = 16, 4
    with ad.accelerate(pipe, policy) as healthy:
        expected = run(pipe, inputs, steps=steps)

    class Struck:
        """The UNet gives NaN for the first sample in its fifth computed step."""

        calls = 0

        def __call__(self, _: Any, __: Any, output: Any) -> Any:
            Struck.calls += 1
            if Struck.calls == struck + 1:
                output[0][::2] = math.nan

    handle = pipe.unet.register_forward_hook(Struck())
    with ad.accelerate(pipe, policy) as accelerated:
        result = run(pipe, inputs, steps=steps)
    handle.remove()
    first, second = accelerated.report.mask
    assert second == healthy.report.mask[1]
    assert not all(second)
    at = [i for i in range(steps) if first[i] or second[i]][struck]
    assert all(first[at:])
    assert result[0].isnan().any()
    assert relative_difference(result[1], expected[1]) < 1e-4


def test_an_extra_branch_that_comes_and_goes_is_called(tiny: Tiny) -> None:
    """Skip-layer guidance: a third pass in the middle of the run."""
    pipe = tiny("sd3")
    guidance = {
        "skip_guidance_layers": [0],
        "skip_layer_guidance_start": 0.2,
        "skip_layer_guidance_stop": 0.7,
    }
    calls = count_calls(pipe.transformer)
    plain = generate(pipe, steps=12, **guidance)
    extra = len(calls) - 12
    assert extra > 2
    calls.clear()
    with ad.accelerate(pipe, tolerance=0) as accelerated:
        assert torch.equal(generate(pipe, steps=12, **guidance), plain)
    with ad.accelerate(pipe, tolerance=3.0) as accelerated:
        skipped = generate(pipe, steps=12, **guidance)
    assert accelerated.report.nfe[0] < 12
    assert relative_difference(skipped, plain) < 0.3


def test_guidance_that_is_cut_off_on_the_way(tiny: Tiny) -> None:
    """The callback halves the batch from some step on: a branch without history is computed."""
    pipe = tiny("sd15")

    def cut(pipe: Any, step: int, _: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            pipe._guidance_scale = 0.0
            given["prompt_embeds"] = given["prompt_embeds"].chunk(2)[-1]
        return given

    options = {
        "callback_on_step_end": cut,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }
    plain = generate(pipe, steps=10, **options)
    rows = count_calls(pipe.unet)
    mask = [i not in (5, 7, 8) for i in range(10)]
    with ad.accelerate(pipe, FixedSchedule(mask)) as accelerated:
        skipped = generate(pipe, steps=10, **options)
    assert accelerated.report.mask == [[i not in (7, 8) for i in range(10)]]
    assert rows == [2] * 5 + [1] * 3
    assert relative_difference(skipped, plain) < 0.5


def test_an_encoder_is_no_denoiser_whatever_it_is_called(tiny: Tiny) -> None:
    """As Stable UnCLIP's ``prior_text_encoder`` is none, unlike its ``prior``."""
    pipe = tiny("sd15")
    pipe.prior_text_encoder = copy.deepcopy(pipe.text_encoder)
    assert components.denoisers(pipe) == [pipe.unet]


def test_samples_of_another_shape_begin_a_new_loop(tiny: Tiny) -> None:
    """As where frames join in, or the resolution changes on the way: no forecast reaches there."""

    def crop(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        return {"latents": given["latents"][..., :4]} if step == 4 else given

    pipe = tiny("sd15")
    arguments = {"steps": 10, "callback_on_step_end": crop}
    plain = generate(pipe, **arguments)
    ad.enable(pipe, tolerance=0)
    assert torch.equal(generate(pipe, **arguments), plain)
    ad.enable(pipe, tolerance=1e9)
    assert generate(pipe, **arguments).shape == plain.shape
    before, after = [True, True, True, False, False], [True, True, True, False, True]
    assert ad.report(pipe).mask == [before + after]


class OwnLoop:
    """A pipeline of somebody's own that may write into the denoiser's outputs.

    Or steps all samples with the first one's.
    """

    def __init__(self, in_place: bool = False, rows: int = 2) -> None:
        self.unet = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.unet.load_state_dict(
            {name: 0.1 * torch.ones_like(value) for name, value in self.unet.state_dict().items()}
        )
        self.scheduler = SCHEDULERS["ddim"]()
        self.components = {"unet": self.unet, "scheduler": self.scheduler}
        self.in_place = in_place
        self.rows = rows

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        self.scheduler.set_timesteps(STEPS)
        sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for t in self.scheduler.timesteps:
            output = self.unet(sample)
            output = output.mul_(-0.5) if self.in_place else output * -0.5
            sample = self.scheduler.step(output[: self.rows], t, sample, return_dict=False)[0]
        return sample


@pytest.mark.parametrize("extrapolates", [True, False], ids=["forecast", "reuse"])
def test_a_pipeline_may_write_into_the_denoisers_outputs(extrapolates: bool) -> None:
    """What a skipped step gets is a copy of its own."""
    results = []
    for in_place in (False, True):
        pipe = OwnLoop(in_place)
        with ad.accelerate(pipe, FixedSchedule(MASK, extrapolates, extrapolates)) as accelerated:
            results.append(pipe())
        assert accelerated.report.mask == [MASK] * 2
    assert torch.equal(*results)


def test_an_output_that_serves_for_several_samples_is_left_alone() -> None:
    """CycleDiffusion does so with a batch: nothing is known of the others then."""
    pipe = OwnLoop(rows=1)
    plain = pipe()
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        assert torch.equal(pipe(), plain)
    assert "nothing was skipped" in str(accelerated.report)


def test_steps_are_told_of_one_by_one(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    seen: list[list[list[bool]]] = []
    with ad.accelerate(pipe, FixedSchedule(MASK), on_step=seen.append):
        generate(pipe, 2, steps=STEPS)
    assert seen == [[MASK[: i + 1]] * 2 for i in range(STEPS)]
