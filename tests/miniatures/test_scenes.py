"""The miniature whose pictures hold many things: it loads offline, is hard, and is sped up.

What it has learned is measured by the recipe (see its model card); here a few prompts stand for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusion3Pipeline
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.apps.bench.rivals import Rival
from adaptive_diffusion.apps.bench.rivals.mag_cache import MagCache
from adaptive_diffusion.apps.bench.rivals.pyramid_attention import PyramidAttention
from adaptive_diffusion.apps.bench.rivals.taylor_seer import TaylorSeer
from adaptive_diffusion.apps.loading import make_scheduler
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE, PROMPTS


@pytest.fixture(scope="module")
def scenes() -> Any:
    pipe = ad.load_miniature("scenes")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], steps: int, first_seed: int = 0) -> Tensor:
    """Pictures with consecutive seeds; `(B, 3, H, W)`."""
    seeds = range(first_seed, first_seed + len(prompts))
    return pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["scenes"],
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        **ARGUMENTS["scenes"],
    ).images


def test_it_is_a_stable_diffusion_3_pipeline_in_full_precision(scenes: Any) -> None:
    assert type(scenes) is StableDiffusion3Pipeline
    encoders = (scenes.text_encoder, scenes.text_encoder_2, scenes.text_encoder_3)
    assert all(part.dtype == torch.float32 for part in (scenes.transformer, scenes.vae, *encoders))


def test_a_few_steps_make_a_picture(scenes: Any) -> None:
    picture = draw(scenes, ["a red ball"], steps=4)
    assert picture.shape == (1, 3, 48, 48)
    assert picture.isfinite().all()


def test_its_prompts_fit_into_its_tokens(scenes: Any) -> None:
    tokens = ARGUMENTS["scenes"]["max_sequence_length"]
    assert scenes.tokenizer.model_max_length == tokens
    for tokenizer in (scenes.tokenizer, scenes.tokenizer_2, scenes.tokenizer_3):
        assert max(len(ids) for ids in tokenizer(list(PROMPTS["scenes"])).input_ids) <= tokens


def test_noise_levels_are_shifted_by_three(scenes: Any) -> None:
    """And the denoiser is told them as they are."""
    draw(scenes, ["a red ball"], steps=4)
    levels = scenes.scheduler.sigmas[:-1]
    torch.testing.assert_close(scenes.scheduler.timesteps, 1000 * levels)
    plain = levels / (3 - 2 * levels)
    torch.testing.assert_close(
        plain.diff().std() / plain.std(), torch.tensor(0.0), atol=1e-3, rtol=0
    )


def test_other_solvers_of_flow_matching_run_on_it(scenes: Any) -> None:
    own = scenes.scheduler
    try:
        scenes.scheduler = make_scheduler(scenes, "flow-dpm++")
        assert isinstance(scenes.scheduler, DPMSolverMultistepScheduler)
        assert draw(scenes, ["a red ball"], steps=8).isfinite().all()
    finally:
        scenes.scheduler = own


@pytest.mark.parametrize("rival", [MagCache(0.24, 5), TaylorSeer(3, order=1), PyramidAttention(2)])
def test_caches_of_diffusers_run_on_it(scenes: Any, rival: Rival) -> None:
    """They make another picture, at less work than the full run's."""
    assert rival.reason_against(scenes) is None
    full = draw(scenes, ["a red ball"], steps=12)
    with rival.applied(scenes, 12) as work:
        picture = draw(scenes, ["a red ball"], steps=12)
    assert picture.isfinite().all()
    assert not torch.equal(picture, full)
    assert sum(work.per_step) < 12
    torch.testing.assert_close(draw(scenes, ["a red ball"], steps=12), full)


def test_the_default_tolerance_skips_something(scenes: Any) -> None:
    ad.enable(scenes)
    draw(scenes, ["a red ball"], steps=30)
    report = ad.report(scenes)
    ad.disable(scenes)
    assert report.nfe[0] < 30


@pytest.mark.slow
def test_what_is_asked_for_is_drawn_and_the_rest_is_left_to_the_seed(scenes: Any) -> None:
    """At sea there is more blue than on grass, on snow it is brighter than at night; two seeds of
    one prompt are less than 15 dB apart."""
    prompts = [f"a red ball {place}" for place in ("at sea", "on grass", "on snow", "at night")]
    pictures = draw(scenes, [text for text in prompts for _ in range(4)], steps=20).clamp(0, 1)
    ground = pictures[:, :, -8:].mean(dim=(2, 3)).view(4, 4, 3).mean(dim=1)
    sea, grass, snow, night = ground
    assert sea[2] - sea[1] > grass[2] - grass[1]
    assert snow.mean() > night.mean() + 0.2
    other = draw(scenes, prompts[:1] * 8, steps=20, first_seed=100).clamp(0, 1)
    assert ad.psnr(other[:4], other[4:]).mean() < 15
