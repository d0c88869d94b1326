"""What users do to a pipeline and ask of it goes on working while it is enabled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from schedulers import count_calls, inputs_for, relative_difference
from tiny_pipelines import TINY_PIPELINES, prompts, run
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule

Tiny = Callable[[str], Any]
STEPS = 6
MASK = [True, True, False, True, False, True]


def generate(pipe: Any, batch: int = 1, **options: Any) -> Tensor:
    return run(pipe, inputs_for(pipe, batch), steps=STEPS, **options)


@pytest.fixture
def pipe(tiny: Tiny) -> Any:
    made = tiny("sd15")
    ad.enable(made, FixedSchedule(MASK))
    return made


def plainly(pipe: Any, **options: Any) -> Tensor:
    """What the pipeline gives without acceleration; it is enabled again afterwards."""
    ad.disable(pipe)
    result = generate(pipe, **options)
    ad.enable(pipe, FixedSchedule(MASK))
    return result


def check_skips(pipe: Any, **options: Any) -> Tensor:
    """Skips as planned, and ends near the full run."""
    result = generate(pipe, **options)
    assert all(row == MASK for row in ad.report(pipe).mask)
    assert 0 < relative_difference(result, plainly(pipe, **options)) < 1
    return result


# Weights and processors ---------------------------------------------------------------------------


@pytest.fixture
def lora(tiny: Tiny, tmp_path: Path) -> Path:
    """A folder with low-rank weights for the UNet's attention, all random."""
    peft = pytest.importorskip("peft")
    unet = tiny("sd15").unet
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    unet.add_adapter(config)
    layers = peft.get_peft_model_state_dict(unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers={name: 5 * weight for name, weight in layers.items()}
    )
    return tmp_path


def test_a_lora_is_loaded_and_unloaded_while_enabled(pipe: Any, lora: Path) -> None:
    before = check_skips(pipe)
    pipe.load_lora_weights(lora, local_files_only=True)
    with_lora = check_skips(pipe)
    assert relative_difference(with_lora, before) > 1e-3
    pipe.fuse_lora()
    assert relative_difference(check_skips(pipe), with_lora) < 1e-3
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert relative_difference(check_skips(pipe), before) < 1e-5


def test_the_scale_of_a_lora_is_heeded(pipe: Any, lora: Path) -> None:
    before = generate(pipe)
    pipe.load_lora_weights(lora, local_files_only=True)
    nothing = generate(pipe, cross_attention_kwargs={"scale": 0.0})
    assert relative_difference(nothing, before) < 1e-5


def test_attention_processors_may_be_exchanged(pipe: Any) -> None:
    before = check_skips(pipe)
    pipe.unet.set_attn_processor(AttnProcessor())
    assert relative_difference(check_skips(pipe), before) < 1e-3
    pipe.unet.fuse_qkv_projections()
    assert relative_difference(check_skips(pipe), before) < 1e-3


def test_a_component_may_be_exchanged(pipe: Any, tiny: Tiny) -> None:
    other = tiny("sd15").unet
    for weight in other.parameters():
        weight.mul_(0.9)
    before = generate(pipe)
    calls = count_calls(other)
    pipe.unet = other
    assert relative_difference(generate(pipe), before) > 1e-3
    assert len(calls) == sum(MASK)


@pytest.mark.parametrize("way", ["tiling", "slicing"])
def test_the_decoder_may_work_in_parts(way: str, pipe: Any) -> None:
    getattr(pipe.vae, f"enable_{way}")()
    pictures = generate(pipe, batch=2, output_type="pt", height=32, width=32)
    assert pictures.shape == (2, 3, 32, 32)
    assert ad.report(pipe).mask == [MASK] * 2


# Copies -------------------------------------------------------------------------------------------


def test_a_pipeline_made_from_an_enabled_one_is_not_enabled(pipe: Any) -> None:
    """`from_pipe` of the class and of the auto class; the enabled one goes on as it was."""
    inputs = TINY_PIPELINES["img2img"].inputs(1)
    expected = generate(pipe)
    for made in (
        diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe),
        diffusers.AutoPipelineForImage2Image.from_pipe(pipe),
    ):
        assert type(made) is diffusers.StableDiffusionImg2ImgPipeline
        plain = run(made, inputs, steps=STEPS)
        calls = count_calls(made.unet)
        with ad.accelerate(made, FixedSchedule([True, False, True])):
            assert not torch.equal(run(made, inputs, steps=STEPS), plain)
        assert len(calls) == 2
    assert torch.equal(generate(pipe), expected)


def test_a_copy_made_in_the_middle_of_a_run_is_a_plain_module(pipe: Any) -> None:
    copies: list[Any] = []

    def copy_it(pipe: Any, _: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        copies.append(copy.deepcopy(pipe.unet))
        return given

    generate(pipe, callback_on_step_end=copy_it)
    call = (torch.ones(1, 4, 8, 8), 500, torch.ones(1, 7, 32))
    with torch.no_grad():
        expected = pipe.unet(*call).sample
        for made in copies:
            assert type(made) is type(pipe.unet)
            assert vars(made).keys() == vars(pipe.unet).keys()
            assert torch.equal(made(*call).sample, expected)


def test_it_may_be_saved_in_the_middle_of_a_run(pipe: Any, tmp_path: Path) -> None:
    def save(pipe: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 3:
            pipe.save_pretrained(tmp_path)
        return given

    expected = generate(pipe)
    assert torch.equal(generate(pipe, callback_on_step_end=save), expected)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert torch.equal(generate(loaded), plainly(pipe))


# Arguments ----------------------------------------------------------------------------------------


def test_embeddings_may_be_given_for_prompts(pipe: Any) -> None:
    expected = generate(pipe, batch=2)
    positive, negative = pipe.encode_prompt(prompts(2), "cpu", 1, True)
    embedded = generate(
        pipe,
        batch=2,
        prompt=None,
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        generator=[torch.Generator().manual_seed(b) for b in range(2)],
    )
    assert torch.equal(embedded, expected)


def test_pictures_of_one_prompt_are_samples_of_their_own(pipe: Any) -> None:
    generators = [torch.Generator().manual_seed(b) for b in range(3)]
    together = generate(pipe, num_images_per_prompt=3, generator=generators)
    assert ad.report(pipe).mask == [MASK] * 3
    for b in range(3):
        alone = generate(pipe, generator=torch.Generator().manual_seed(b))
        assert relative_difference(together[b : b + 1], alone) < 1e-4


@pytest.mark.parametrize("kind", ["latent", "pt", "np", "pil"])
@pytest.mark.parametrize("return_dict", [True, False])
def test_outputs_of_all_types(kind: str, return_dict: bool, pipe: Any) -> None:
    options = {"output_type": kind, "return_dict": return_dict}
    assert generate(pipe, **options).isfinite().all()
    assert ad.report(pipe).mask == [MASK]


def test_latents_may_be_given(pipe: Any) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    given = latents.clone()
    check_skips(pipe, latents=latents)
    assert torch.equal(latents, given)
