"""The transformer among the miniatures: it loads offline, draws what is asked for, and is sped up.

What it has learned is measured by the recipe (see its model card); here four prompts stand for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import CogView4Pipeline
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import GUIDANCE


@pytest.fixture(scope="module")
def dit() -> Any:
    pipe = ad.load_miniature("emoji-dit")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], steps: int) -> Tensor:
    """Pictures with the seeds 0, 1, ...; `(B, 3, H, W)`."""
    return pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["emoji-dit"],
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        output_type="pt",
    ).images


def test_it_is_a_cogview4_pipeline_in_full_precision(dit: Any) -> None:
    assert type(dit) is CogView4Pipeline
    assert all(part.dtype == torch.float32 for part in (dit.transformer, dit.vae, dit.text_encoder))


def test_a_few_steps_make_a_picture(dit: Any) -> None:
    picture = draw(dit, ["a red apple"], steps=4)
    assert picture.shape == (1, 3, 32, 32)
    assert picture.isfinite().all()


def test_a_prompt_is_encoded_the_same_beside_a_longer_one(dit: Any) -> None:
    """The tokenizer pads on the left, where the pipeline pads too."""
    alone, _ = dit.encode_prompt("a frog", do_classifier_free_guidance=False)
    prompts = ["a frog", "a picture of a slice of pizza"]
    together, _ = dit.encode_prompt(prompts, do_classifier_free_guidance=False)
    torch.testing.assert_close(together[:1], alone)


def test_noise_levels_are_not_shifted(dit: Any) -> None:
    """The timesteps that the denoiser is told are the noise levels it was trained with."""
    draw(dit, ["a frog"], steps=4)
    levels = dit.scheduler.sigmas[:-1]
    torch.testing.assert_close(dit.scheduler.timesteps, 1000 * levels, rtol=0, atol=1e-3)


def test_the_default_tolerance_skips_something(dit: Any) -> None:
    ad.enable(dit)
    draw(dit, ["a red apple"], steps=30)
    report = ad.report(dit)
    ad.disable(dit)
    assert report.nfe[0] < 30


@pytest.mark.slow
def test_what_is_asked_for_is_drawn(dit: Any) -> None:
    """A red apple is red, a frog green, a carrot orange, a panda grey; all are on white."""
    prompts = ["a red apple", "a frog", "a carrot", "a panda"]
    pictures = draw(dit, prompts, steps=20)
    apple, frog, carrot, panda = pictures[:, :, 12:20, 12:20].mean(dim=(2, 3))
    assert apple[0] > 0.6 > max(apple[1], apple[2])
    assert frog[1] > max(frog[0], frog[2])
    assert carrot[0] > carrot[1] > carrot[2]
    assert panda.max() - panda.min() < 0.1
    assert pictures[:, :, :2, -2:].mean() > 0.85
