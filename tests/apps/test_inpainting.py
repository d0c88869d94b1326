"""What is outside the mask stays, whatever model and policy."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny_pipelines import TINY_PIPELINES, run

import adaptive_diffusion as ad
from adaptive_diffusion.apps.inpainting import KeepOutside, takes_masks

SIZE = 32


@pytest.mark.parametrize("tolerance", [0, 3.0], ids=["full", "accelerated"])
@torch.no_grad()
def test_only_what_is_masked_changes(tolerance: float) -> None:
    pipe = TINY_PIPELINES["img2img"].make()
    inputs = TINY_PIPELINES["img2img"].inputs(1)
    picture = pipe.image_processor.numpy_to_pil(inputs["image"].movedim(1, -1).numpy())[0]
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (0, 0, 8, SIZE))
    ad.enable(pipe, tolerance=tolerance)
    keep = KeepOutside(picture, mask, seed=0)
    latents = run(pipe, inputs | {"image": picture}, steps=12, callback_on_step_end=keep)
    encoded = pipe.vae.encode(pipe.image_processor.preprocess(picture)).latent_dist.mode()
    original = encoded * pipe.vae.config.scaling_factor
    assert torch.allclose(latents[..., 4:], original[..., 4:], atol=1e-6)
    assert (latents[..., :4] - original[..., :4]).abs().min() > 1e-4


def test_which_models_have_an_inpainting_pipeline_that_runs() -> None:
    assert takes_masks(TINY_PIPELINES["sd15"].make())
    assert takes_masks(TINY_PIPELINES["sd3"].make())
    eight = ad.load_miniature("emoji")
    assert not takes_masks(eight)
