"""The video transformer among the miniatures: it makes clips of a caption, and of a picture too.

What it has learned is measured by the recipe (see its model card); here a few prompts stand for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import LTXImageToVideoPipeline, LTXPipeline
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE

FRAMES = 17


@pytest.fixture(scope="module")
def from_text() -> Any:
    pipe = ad.load_miniature("motion-dit")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def from_picture(from_text: Any) -> Any:
    pipe = LTXImageToVideoPipeline(**from_text.components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def still(from_text: Any) -> Tensor:
    """A red apple, as the model itself draws it; `(1, 3, 32, 32)`."""
    return make(from_text, ["a red apple spinning"], steps=20)[:, 0]


def make(pipe: Any, prompts: list[str], steps: int, **begin: Tensor) -> Tensor:
    """Clips with the seeds 0, 1, ...; `(B, frames, 3, H, W)`."""
    return pipe(
        prompt=prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["motion-dit"],
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        output_type="pt",
        **ARGUMENTS["motion-dit"],
        **begin,
    ).frames


def middles(clip: Tensor) -> Tensor:
    """Where what is not white stands in each frame, right and down, in pixels; `(frames, 2)`."""
    ink = (1 - clip).clamp(min=0).mean(dim=1)
    places = torch.arange(32.0)
    across = (ink.sum(dim=1) * places).sum(dim=1) / ink.sum(dim=(1, 2))
    down = (ink.sum(dim=2) * places).sum(dim=1) / ink.sum(dim=(1, 2))
    return torch.stack([across, down], dim=1)


def test_it_is_an_ltx_pipeline_in_full_precision(from_text: Any) -> None:
    parts = (from_text.transformer, from_text.vae, from_text.text_encoder)
    assert type(from_text) is LTXPipeline
    assert all(part.dtype == torch.float32 for part in parts)


def test_a_few_steps_make_a_clip(from_text: Any) -> None:
    clip = make(from_text, ["a lemon rising"], steps=4)
    assert clip.shape == (1, FRAMES, 3, 32, 32)
    assert clip.isfinite().all()


def test_noise_levels_are_not_shifted(from_text: Any) -> None:
    """The timesteps that the denoiser is told are the noise levels it was trained with."""
    make(from_text, ["a lemon rising"], steps=4)
    levels = from_text.scheduler.sigmas[:-1]
    torch.testing.assert_close(from_text.scheduler.timesteps, 1000 * levels, rtol=0, atol=1e-3)


@torch.no_grad()
def test_the_first_latent_frame_is_that_of_a_still(from_text: Any, still: Tensor) -> None:
    """What image-to-video rests on: the encoder does not look ahead."""
    clip = 2 * torch.stack([still, 1 - still, still.flip(-1)], dim=2) - 1
    whole, alone = (
        from_text.vae.encode(part).latent_dist.mode()[:, :, :1] for part in (clip, clip[:, :, :1])
    )
    torch.testing.assert_close(whole, alone)


def test_a_clip_begins_with_the_picture_given(from_picture: Any, still: Tensor) -> None:
    clip = make(from_picture, ["a red apple moving to the left"], steps=10, image=still)
    assert ad.psnr(clip[:, 0], still).item() > 25
    assert ad.psnr(clip[:, -1], still).item() < 20


def test_the_direction_is_that_of_the_caption(from_text: Any) -> None:
    """A coordinate of the middle, in pixels, between the first frame and the last."""
    prompts = ["a red apple moving to the left", "a lemon moving to the right", "a carrot falling"]
    left, right, falling = (middles(clip) for clip in make(from_text, prompts, steps=15))
    assert (left[-1] - left[0])[0] < -6
    assert (right[-1] - right[0])[0] > 6
    assert (falling[-1] - falling[0])[1] > 6


def test_one_picture_moves_as_either_caption_says(from_picture: Any, still: Tensor) -> None:
    prompts = ["a red apple moving to the left", "a red apple rising"]
    left, rising = make(from_picture, prompts, steps=15, image=still.expand(2, -1, -1, -1))
    assert (middles(left)[-1] - middles(left)[0])[0] < -3
    assert (middles(rising)[-1] - middles(rising)[0])[1] < -3


def test_the_default_tolerance_skips_something(
    from_text: Any, from_picture: Any, still: Tensor
) -> None:
    for pipe, begin in ((from_text, {}), (from_picture, {"image": still})):
        ad.enable(pipe)
        make(pipe, ["a red apple spinning"], steps=30, **begin)
        report = ad.report(pipe)
        ad.disable(pipe)
        assert report.nfe[0] < 30


@pytest.mark.slow
def test_what_is_asked_for_is_shown(from_text: Any) -> None:
    """A red apple is red, a lemon yellow, a fox orange, a panda grey; all are on white."""
    prompts = [
        *("a red apple spinning", "a lemon spinning"),
        *("a fox face falling", "a panda face growing"),
    ]
    colours = []
    for clip in make(from_text, prompts, steps=30):
        frame = clip[FRAMES // 2]
        across, down = middles(clip)[FRAMES // 2].round().long().tolist()
        colours.append(frame[:, down - 2 : down + 3, across - 2 : across + 3].mean(dim=(1, 2)))
        assert clip[:, :, :2, -2:].mean() > 0.85
    apple, lemon, fox, panda = colours
    assert apple[0] > max(apple[1], apple[2]) + 0.2
    assert min(lemon[0], lemon[1]) > lemon[2] + 0.2
    assert fox[0] > fox[1] + 0.2 > fox[2] + 0.4
    assert panda.max() - panda.min() < 0.15
