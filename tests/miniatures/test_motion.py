"""The video UNet among the miniatures: it loads offline, moves things as asked, and is sped up.

What it has learned is measured by the recipe (see its model card); here a few prompts stand for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import TextToVideoSDPipeline
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import GUIDANCE

FRAMES = 16


@pytest.fixture(scope="module")
def motion() -> Any:
    pipe = ad.load_miniature("motion")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe: Any, prompts: list[str], steps: int) -> Tensor:
    """Clips with the seeds 0, 1, ...; `(B, frames, 3, H, W)`."""
    return pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["motion"],
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        output_type="pt",
    ).frames


def ink(clip: Tensor) -> Tensor:
    """How far each pixel is from white, `(frames, H, W)`."""
    return (1 - clip).clamp(min=0).mean(dim=1)


def height(clip: Tensor) -> Tensor:
    """How far up what is not white stands in each frame, in pixels; `(frames,)`."""
    rows = ink(clip).sum(dim=2)
    return 31 - (rows * torch.arange(32.0)).sum(dim=1) / rows.sum(dim=1)


def test_it_is_a_modelscope_pipeline_in_full_precision(motion: Any) -> None:
    assert type(motion) is TextToVideoSDPipeline
    assert all(
        part.dtype == torch.float32 for part in (motion.unet, motion.vae, motion.text_encoder)
    )


def test_a_few_steps_make_a_clip(motion: Any) -> None:
    clip = make(motion, ["a lemon rising"], steps=4)
    assert clip.shape == (1, FRAMES, 3, 32, 32)
    assert clip.isfinite().all()


def test_it_moves_as_the_caption_says(motion: Any) -> None:
    """What bounces is up at a quarter and down at half of the time; the others gain or lose ink."""
    prompts = ["a rocket bouncing", "an octopus growing", "a lemon fading away"]
    bouncing, growing, fading = make(motion, prompts, steps=15)
    assert height(bouncing)[4] > height(bouncing)[[0, 8]].max() + 5
    assert ink(growing)[-1].mean() > 1.5 * ink(growing)[0].mean()
    assert ink(fading)[-1].mean() < 0.4 * ink(fading)[0].mean()


def test_the_subject_is_that_of_the_caption(motion: Any) -> None:
    """Where they are not white, a red apple is red and a frog green; the corners are white."""
    prompts = ["a red apple spinning", "a frog face bouncing"]
    apple, frog = make(motion, prompts, steps=15)
    for clip in (apple, frog):
        assert clip[:, :, :2, -2:].mean() > 0.85
    apple, frog = (
        (clip * ink(clip)[:, None]).sum(dim=(0, 2, 3)) / ink(clip).sum() for clip in (apple, frog)
    )
    assert apple[0] > max(apple[1], apple[2]) + 0.2
    assert frog[1] > max(frog[0], frog[2])


def test_the_accelerated_clip_stays_the_full_runs(motion: Any) -> None:
    """In each frame, with less than half of the calls."""
    prompts = ["a fox face shrinking"]
    full = make(motion, prompts, steps=40)
    with ad.accelerate(motion) as run:
        fast = make(motion, prompts, steps=40)
    assert run.report.nfe[0] <= 20
    assert ad.psnr(fast[0], full[0]).min() > 30
