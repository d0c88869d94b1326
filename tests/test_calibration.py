"""Calibration: the plan of the fewest calls that keeps a promise, found in few runs."""

from __future__ import annotations

import functools
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_pipeline import (
    ToyEmbeddingPipeline,
    ToyPipeline,
    ToySoundPipeline,
    ToyTinyPipeline,
    ToyUnevenPipeline,
    ToyVideoPipeline,
)

import adaptive_diffusion as ad
from adaptive_diffusion.evidence import Goal
from adaptive_diffusion.miniatures import miniatures
from adaptive_diffusion.numerics.spectrogram import spectrogram
from adaptive_diffusion.plan_finder import NUGGETS

PROMPTS = [f"{colour} {thing}" for colour in ("a red", "a dark") for thing in ("fox", "lighthouse")]


def calibrate(pipe: Any = None, prompts: Any = PROMPTS, **options: Any) -> ad.Profile:
    return ad.calibrate(ToyPipeline() if pipe is None else pipe, prompts, **options)


@functools.cache
def toy_profile(goal: str, value: float) -> ad.Profile:
    """A calibration that several tests look at."""
    return calibrate(**{goal: value})


def picture(pipe: Any, seed: int, **call: Any) -> Tensor:
    """Of one sample, `(1, C, H, W)`."""
    generator = torch.Generator().manual_seed(seed)
    images = pipe(generator=generator, output_type="np", **call).images
    return torch.as_tensor(images).movedim(-1, 1)


def sound(pipe: Any, seed: int) -> Tensor:
    """Of one sample, `(1, N)`."""
    return torch.as_tensor(pipe("a bell", generator=torch.Generator().manual_seed(seed)).audios)


def unseen(pipe: Any, profile: ad.Profile, calls: list[dict[str, Any]]) -> list[float]:
    """The PSNR of samples that the calibration had nothing to do with, worst first."""
    found = []
    for seed, call in enumerate(calls, start=10_000):
        full = picture(pipe, seed, **call)
        with ad.accelerate(pipe, profile=profile):
            found.append(float(ad.psnr(picture(pipe, seed, **call), full).clamp(max=100)))
    return sorted(found)


# Goals -----------------------------------------------------------------------------------------


def test_a_target_is_reached_on_the_samples_held_out_and_on_others() -> None:
    profile = toy_profile("target_psnr", 50)
    assert (profile.evidence.fitting, profile.evidence.held_out) == (2, 2)
    assert profile.evidence.psnr_mean >= 50
    assert profile.evidence.psnr_worst_tenth >= 47
    assert 1 < profile.evidence.nfe_reduction == pytest.approx(30 / profile.evidence.nfe)
    assert profile.steps == (30, 30)
    others = unseen(ToyPipeline(), profile, [{"prompt": word} for word in ("owl", "a big castle")])
    assert fmean(others) >= 49


def test_no_sample_falls_below_the_worst_that_is_asked_for() -> None:
    profile = calibrate(worst_psnr=30)
    assert profile.evidence.psnr_worst >= 30
    assert str(profile.goal) == "a PSNR of 30 dB for every sample"
    others = unseen(ToyPipeline(), profile, [{"prompt": word} for word in ("owl", "a big castle")])
    assert others[0] >= 30
    assert calibrate(worst_psnr=45).nfe > profile.nfe


def test_a_higher_target_is_no_looser() -> None:
    tight, loose = (toy_profile("target_psnr", target) for target in (50, 40))
    assert tight.nfe > loose.nfe
    assert (tight.evidence.nfe, loose.evidence.nfe) == (tight.nfe, loose.nfe)
    assert tight.evidence.psnr_mean > loose.evidence.psnr_mean


def test_more_samples_need_less_safety() -> None:
    few, many = toy_profile("target_psnr", 50), calibrate(prompts=PROMPTS * 4, target_psnr=50)
    assert few.nfe >= many.nfe


def test_a_similarity_can_be_the_target() -> None:
    profile = calibrate(target_ssim=0.99)
    assert profile.goal == Goal("ssim", 0.99)
    assert profile.evidence.ssim_mean is not None
    assert 0.99 <= profile.evidence.ssim_mean < 1


def test_a_budget_is_spent_to_the_last_call() -> None:
    profile = calibrate(budget_nfe=14.5)
    assert profile.nfe == profile.evidence.nfe == 14
    wider = toy_profile("budget_nfe", 20)
    assert wider.nfe == 20
    assert wider.evidence.psnr_mean > profile.evidence.psnr_mean


def test_a_video_counts_with_its_frames() -> None:
    pictures, videos = toy_profile("target_psnr", 50), calibrate(ToyVideoPipeline(), target_psnr=50)
    # a frame of half the brightness has half the error: 6 dB more, 3 in the mean of both
    assert videos.evidence.psnr_mean >= 50
    assert videos.nfe <= pictures.nfe
    assert videos.model != pictures.model


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (
            {"target_psnr": 99},
            r"99 dB is not reached: under Planned\(nfe=29, measured\) the mean is",
        ),
        ({"target_ssim": 1 - 1e-9}, "ask for less, or give more samples or steps"),
        ({"budget_nfe": 1.5}, r"1.5 evaluations are too few: under Planned\(nfe=2, measured\)"),
    ],
    ids=["psnr", "ssim", "budget"],
)
def test_what_is_out_of_reach_is_an_error(goal: dict[str, float], words: str) -> None:
    with pytest.raises(ad.CalibrationError, match=words):
        calibrate(**goal)


# Runs ------------------------------------------------------------------------------------------


def test_it_takes_few_runs_and_tells_of_each() -> None:
    pipe, told = ToyPipeline(), []
    calibrate(pipe, target_psnr=50, notify=told.append)
    measuring = 2 + 2 * (1 + 10)  # recorded; displaced, and disturbed at ten steps
    tried = 2 * len(NUGGETS)  # runs for a number of calls
    bisection = tried * 5
    ratios, held_out, careful = tried * 5, 2 * 6, 5 * (tried + 2)  # a few more careful plans
    assert pipe.calls <= 2 + measuring + bisection + ratios + held_out + careful
    assert told[:2] == ["recorded run 1 of 2", "recorded run 2 of 2"]
    full = [line for line in told if line.startswith("full run")]
    assert full == ["full run 1 of 2", "full run 2 of 2"]  # of the samples held out
    assert told[-1].startswith("Planned(nfe=")


def test_a_pipeline_whose_loops_differ_gets_a_tolerance_and_is_told_why() -> None:
    pipe, told = ToyUnevenPipeline(), []
    profile = calibrate(pipe, target_psnr=50, notify=told.append)
    reason = "a tolerance is calibrated: the pipeline's loops differ from sample to sample"
    assert reason in told
    assert sum("recorded run" in line or "full run" in line for line in told) == len(PROMPTS)
    assert profile.nfe is profile.measured is None
    assert profile.tolerance is not None
    assert calibrate(pipe, target_psnr=40).tolerance > profile.tolerance
    assert profile.evidence.psnr_mean >= 50


def test_what_was_measured_is_in_the_profile() -> None:
    profile = toy_profile("budget_nfe", 20)
    assert profile.tolerance is None
    assert profile.measured is not None
    ((stream,),) = profile.measured.loops
    assert len(stream) == 30
    assert (profile.measured.guidance, profile.measured.dtype) == (None, "float32")
    assert {plan.nfe for plan in profile.measured.plans} >= {20, 15, 12, 10, 8}
    for plan in profile.measured.plans:
        assert len(plan.steps) == plan.nfe
        assert plan.evidence is None or plan.evidence.nfe == plan.nfe


def test_it_is_repeatable_and_the_seed_matters() -> None:
    first, other = (calibrate(budget_nfe=20, seed=seed) for seed in (0, 4))
    assert first == toy_profile("budget_nfe", 20)
    assert first.evidence != other.evidence


def test_an_enabled_pipeline_is_calibrated_against_its_full_runs() -> None:
    pipe = ToyPipeline()
    ad.enable(pipe, ad.ThirdOrder(0.5))
    assert calibrate(pipe, target_psnr=50) == toy_profile("target_psnr", 50)
    picture(pipe, 0, prompt="owl")
    assert ad.report(pipe).policy == ad.ThirdOrder(0.5)


def test_the_setting_comes_back_after_an_error_and_a_plain_pipeline_stays_plain() -> None:
    pipe = ToyPipeline()
    with pytest.raises(ad.CalibrationError):
        calibrate(pipe, budget_nfe=1)
    assert type(pipe) is ToyPipeline
    ad.enable(pipe, tolerance=0.2)
    with pytest.raises(ad.CalibrationError):
        calibrate(pipe, budget_nfe=1)
    picture(pipe, 0, prompt="owl")
    assert ad.report(pipe).policy == ad.ErrorControlled(0.2)


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one of target_psnr, target_ssim, worst_psnr and budget_nfe"),
        ({"target_psnr": 35, "budget_nfe": 20}, "give one of"),
        ({"target_psnr": 0}, "between 0 and 100 dB, such as 35, not 0"),
        ({"target_psnr": float("nan")}, "between 0 and 100"),
        ({"target_psnr": "35"}, "between 0 and 100"),
        ({"target_ssim": 1}, "target_ssim must be between 0 and 1"),
        ({"budget_nfe": -1}, "budget_nfe must be a number of evaluations"),
        ({"target_psnr": 35, "prompts": "owl"}, "must be a list of texts"),
        ({"target_psnr": 35, "prompts": [1, 2, 3, 4]}, "must be a list of texts"),
        ({"target_psnr": 35, "prompts": ["owl"]}, "1 samples are too few: give at least 4"),
        ({"target_psnr": 35, "prompts": 4}, "ToyPipeline draws what a prompt says: give a list"),
        ({"target_psnr": 35, "generator": None}, "generator is set by calibrate: leave it out"),
        (
            {"target_psnr": 35, "colour": "red"},
            "can't be called so: got an unexpected",
        ),
    ],
    ids=str,
)
def test_bad_arguments_are_found_before_any_run(options: dict[str, Any], words: str) -> None:
    pipe = ToyPipeline()
    goal = (
        {}
        if any(name in options for name in ("target_ssim", "budget_nfe"))
        else {"target_psnr": 35}
    )
    with pytest.raises(ad.CalibrationError, match=words):
        calibrate(pipe, **(goal | options if options else {}))
    assert pipe.calls == 0


def test_a_pipeline_that_makes_no_pictures_is_refused() -> None:
    with pytest.raises(ad.CalibrationError, match="makes neither pictures nor videos nor sounds"):
        calibrate(ToyEmbeddingPipeline(), target_psnr=35)


def test_sounds_count_with_their_spectrograms() -> None:
    """The tolerance that is found keeps the spectrogram of an unseen sound as close as promised."""
    pipe = ToySoundPipeline()
    profile = calibrate(pipe, target_psnr=40)
    full, rate = sound(pipe, 10_000), pipe.vocoder.config.sampling_rate
    with ad.accelerate(pipe, profile=profile) as run:
        accelerated = sound(pipe, 10_000)
    assert run.report.nfe_reduction > 1
    assert ad.psnr(spectrogram(accelerated, rate), spectrogram(full, rate)).item() > 39


def test_a_sound_of_unknown_sampling_rate_is_refused() -> None:
    pipe = ToySoundPipeline()
    pipe.vocoder.config.sampling_rate = None
    with pytest.raises(ad.CalibrationError, match="say its sampling rate"):
        calibrate(pipe, target_psnr=40)


def test_small_pictures_have_no_similarity() -> None:
    pipe = ToyTinyPipeline()
    with pytest.raises(ad.CalibrationError, match="16x4 pixels are too small for an SSIM"):
        calibrate(pipe, target_ssim=0.9)
    assert pipe.calls == 1
    assert calibrate(pipe, target_psnr=50).evidence.ssim_mean is None


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(ad.UnsupportedPipelineError, match="is not a diffusers pipeline"):
        calibrate(object(), target_psnr=35)


# Miniatures ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "emoji"])
def test_35_db_hold_on_samples_not_seen(name: str) -> None:
    if name not in miniatures():
        pytest.skip("the miniature is not at hand")
    pipe = ad.load_miniature(name)
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"num_inference_steps": 50}
    calls: list[dict[str, Any]]
    if name == "emoji":
        call["guidance_scale"] = 3.0
        calls = [call | {"prompt": f"a {thing}"} for thing in UNSEEN]
        profile = ad.calibrate(pipe, SEEN, target_psnr=35, **call)
    else:
        calls = [call] * 32
        profile = ad.calibrate(pipe, 16, target_psnr=35, **call)
    found = unseen(pipe, profile, calls)
    assert fmean(found) >= 34
    assert fmean(found[: len(found) // 10]) > 32


SEEN = [
    *("a red apple", "a tiger face", "a banana", "a sunflower", "a penguin", "a slice of pizza"),
    *("a spouting whale", "a cherry blossom", "a hot dog", "a lady beetle", "a pineapple"),
    *("an owl", "a mushroom", "a frog", "a doughnut", "a cactus"),
]
UNSEEN = (
    *("dog face", "cat face", "lemon", "tangerine", "strawberry", "peach", "cookie", "teapot"),
    *("fish", "snail", "honeybee", "rabbit face", "panda face", "koala", "rose", "tulip"),
    *("hamburger", "taco", "burrito", "lollipop", "honey pot", "beer mug", "wine glass", "camel"),
    *("octopus", "turtle", "rooster", "horse face", "bear face", "dolphin", "kiwifruit", "carrot"),
)
