"""Bad input: the right error, that says what to do, and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from diffusers import KandinskyV22CombinedPipeline
from schedulers import generate
from tiny_pipelines import ALL_PIPELINES

import adaptive_diffusion as ad
from adaptive_diffusion import (
    AdaptiveDiffusionError,
    ErrorControlled,
    FixedSchedule,
    NoReportError,
    PolicyError,
    StepsError,
    UnsupportedPipelineError,
)

Tiny = Callable[[str], Any]


@pytest.fixture
def pipe(tiny: Tiny) -> Any:
    return tiny("sd15")


@pytest.mark.parametrize(
    "tolerance",
    [-0.01, math.nan, math.inf, torch.tensor(0.01), "0.01", True],
    ids=["negative", "nan", "infinite", "tensor", "string", "bool"],
)
@pytest.mark.parametrize("switch", [ad.enable, ad.accelerate], ids=["enable", "accelerate"])
def test_bad_tolerance_changes_nothing(pipe: Any, tolerance: Any, switch: Any) -> None:
    cls = type(pipe)
    for _ in range(2):  # before and while it is enabled
        with pytest.raises(PolicyError, match=r"tolerance must be .*such as 0\.01"):
            enter(switch(pipe, tolerance=tolerance))
        ad.enable(pipe, FixedSchedule([True, False]))
    generate(pipe, steps=2)
    assert ad.report(pipe).mask == [[True, False]]
    ad.disable(pipe)
    assert type(pipe) is cls


def enter(manager: Any) -> None:
    if isinstance(manager, AbstractContextManager):
        with manager:
            pass


def test_policy_and_tolerance_are_not_both_given(pipe: Any) -> None:
    with pytest.raises(PolicyError, match="give only one of policy, tolerance"):
        ad.enable(pipe, ErrorControlled(), tolerance=0.01)


@pytest.mark.parametrize(
    "policy",
    [0.01, "error-controlled", ErrorControlled, object()],
    ids=lambda each: type(each).__name__,
)
def test_a_policy_is_a_policy(pipe: Any, policy: Any) -> None:
    with pytest.raises(PolicyError, match=r"must be a Policy such as ErrorControlled\(\)"):
        ad.enable(pipe, policy)


def test_a_mask_of_the_wrong_length_is_noticed_at_the_call(pipe: Any) -> None:
    plain = generate(pipe, steps=6)
    ad.enable(pipe, FixedSchedule([True, False, True, True]))
    generate(pipe, steps=4)
    report = ad.report(pipe)
    with pytest.raises(StepsError, match="mask has 4 steps and the generation 6"):
        generate(pipe, steps=6)
    assert ad.report(pipe) is report
    generate(pipe, steps=4)
    assert ad.report(pipe).mask == [[True, False, True, True]]
    ad.disable(pipe)
    assert torch.equal(generate(pipe, steps=6), plain)


@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_a_generation_has_steps(name: str, tiny: Tiny) -> None:
    pipe = tiny(name)
    ad.enable(pipe)
    with pytest.raises(StepsError, match="num_inference_steps must be at least 1"):
        generate(pipe, steps=0)
    generate(pipe, steps=2)
    assert ad.report(pipe).steps == 2


@pytest.mark.parametrize(
    "other",
    [None, 5, "pipe", object(), dict, torch.nn.Linear(1, 1)],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("switch", [ad.enable, ad.accelerate], ids=["enable", "accelerate"])
def test_what_is_no_pipeline_is_refused(other: Any, switch: Any) -> None:
    with pytest.raises(
        UnsupportedPipelineError, match=r"not a diffusers pipeline.*AdaptiveDenoiser"
    ):
        enter(switch(other))


@pytest.mark.parametrize("other", [None, 5, object()], ids=["None", "5", "object"])
def test_disabling_what_is_no_pipeline_does_nothing(other: Any) -> None:
    ad.disable(other)


class Incomplete:
    """Something like a pipeline."""

    def __init__(self, **components: Any) -> None:
        self.components = components

    def __call__(self) -> None:
        raise AssertionError("must not be called")


def test_a_pipeline_needs_a_scheduler(pipe: Any) -> None:
    with pytest.raises(UnsupportedPipelineError, match="Incomplete has no scheduler"):
        ad.enable(Incomplete(unet=pipe.unet))


def test_a_pipeline_needs_a_denoiser(pipe: Any) -> None:
    with pytest.raises(UnsupportedPipelineError, match="Incomplete has no denoiser"):
        ad.enable(Incomplete(scheduler=pipe.scheduler, vae=pipe.vae))


def test_a_controlnet_alone_is_no_denoiser(tiny: Tiny) -> None:
    whole = tiny("controlnet")
    with pytest.raises(UnsupportedPipelineError, match="no denoiser"):
        ad.enable(Incomplete(scheduler=whole.scheduler, controlnet=whole.controlnet))


def test_a_controlnet_in_one_with_its_unet_is_a_denoiser() -> None:
    whole = ALL_PIPELINES["StableDiffusionXLControlNetXSPipeline"].make()
    ad.enable(Incomplete(scheduler=whole.scheduler, unet=whole.unet))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("AmusedPipeline", "discrete tokens"),
        ("VQDiffusionPipeline", "discrete tokens"),
        ("OnnxStableDiffusionPipeline", "ONNX"),
        ("LEditsPPPipelineStableDiffusion", "attention maps"),
        ("StableDiffusionAttendAndExcitePipeline", "gradients"),
        ("StableDiffusionPanoramaPipeline", "interleaved views"),
        ("KandinskyV22CombinedPipeline", "enable its inner ones"),
    ],
)
def test_pipelines_that_can_not_be_served_are_refused_with_the_reason(
    name: str, reason: str, pipe: Any
) -> None:
    look_alike = type(name, (Incomplete,), {})(**pipe.components)
    with pytest.raises(UnsupportedPipelineError, match=f"{name} can't be accelerated.*{reason}"):
        ad.enable(look_alike)
    assert type(look_alike).__name__ == name
    assert type(look_alike).__bases__ == (Incomplete,)


def test_a_combined_pipeline_says_which_to_enable_and_they_can_be() -> None:
    prior = ALL_PIPELINES["KandinskyV22PriorPipeline"].make()
    decoder = ALL_PIPELINES["kandinsky2_2"].make()
    of_prior = {f"prior_{name}": part for name, part in prior.components.items()}
    pipe = KandinskyV22CombinedPipeline(**decoder.components, **of_prior)
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(UnsupportedPipelineError, match=r"pipe\.prior_pipe, pipe\.decoder_pipe"):
        ad.enable(pipe)
    inner, mask = (pipe.prior_pipe, pipe.decoder_pipe), [True, True, False, True]
    for each in inner:
        ad.enable(each, FixedSchedule(mask))
    size = {"height": 32, "width": 32}
    pipe("a boat", num_inference_steps=4, prior_num_inference_steps=4, output_type="pt", **size)
    for each in inner:
        assert all(row == mask for row in ad.report(each).mask)
        ad.disable(each)


@pytest.mark.parametrize("enabled", [False, True])
def test_there_is_no_report_before_a_run(pipe: Any, enabled: bool) -> None:
    generate(pipe, steps=2)  # not accelerated
    if enabled:
        ad.enable(pipe)
    with pytest.raises(NoReportError, match=r"call enable\(pipe\), then the pipeline"):
        ad.report(pipe)


def test_there_is_no_report_of_a_run_that_has_not_been(pipe: Any) -> None:
    with ad.accelerate(pipe) as run, pytest.raises(NoReportError):
        _ = run.report
    with pytest.raises(NoReportError):
        ad.report(object())


def test_accelerate_gives_no_report_of_an_earlier_run(pipe: Any) -> None:
    """Its report is of the generations made inside the block."""
    ad.enable(pipe)
    generate(pipe, steps=2)
    with ad.accelerate(pipe) as run, pytest.raises(NoReportError):
        _ = run.report


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (PolicyError, ValueError),
        (StepsError, ValueError),
        (UnsupportedPipelineError, TypeError),
        (NoReportError, LookupError),
    ],
)
def test_errors_are_of_one_family_and_of_the_builtin_kind(error: type, builtin: type) -> None:
    assert issubclass(error, AdaptiveDiffusionError)
    assert issubclass(error, builtin)
