"""The miniatures load offline, are what they say, and are accelerated as the README promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, StableDiffusionPipeline
from safetensors import safe_open
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import GUIDANCE, miniatures, pipeline_miniatures

PROMPTS = Path(__file__).parents[2].joinpath("examples/prompts.txt").read_text().splitlines()
STEPS = 50


@pytest.fixture(scope="module")
def emoji() -> Any:
    pipe = ad.load_miniature("emoji")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], steps: int = STEPS) -> Tensor:
    """Pictures with the seeds 0, 1, ...; `(B, 3, H, W)`."""
    return pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["emoji"],
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        output_type="pt",
    ).images


def test_the_default_is_a_stable_diffusion_pipeline(emoji: Any) -> None:
    assert type(emoji) is StableDiffusionPipeline
    assert emoji.safety_checker is None
    assert all(part.dtype == torch.float32 for part in (emoji.unet, emoji.vae, emoji.text_encoder))


def test_digits_is_an_unconditional_pipeline() -> None:
    assert type(ad.load_miniature("digits")) is DDIMPipeline


def test_the_weights_fit_into_the_package() -> None:
    """At most 25 MB each, safetensors only."""
    for folder in miniatures().values():
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 25e6
        assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt")]


@pytest.mark.parametrize("name", sorted(set(pipeline_miniatures()) - {"digits"}))
def test_transformers_4_can_read_it(name: str) -> None:
    """It takes CLIP's weights by the names that the hub has, and would make others up in silence;
    T5's tokenizer it builds from one file only if that is called fast, and no list is special."""
    folder = pipeline_miniatures()[name]
    index = json.loads((folder / "model_index.json").read_text())
    encoders = {part: kind for part, (_, kind) in _parts(index) if part.startswith("text_encoder")}
    tokenizers = {part: kind for part, (_, kind) in _parts(index) if part.startswith("tokenizer")}
    assert encoders
    assert len(encoders) == len(tokenizers)
    for part, kind in encoders.items():
        if kind.startswith("CLIPTextModel"):
            with safe_open(folder / part / "model.safetensors", "pt") as weights:
                names = set(weights.keys()) - {"text_projection.weight"}
            assert all(each.startswith("text_model.") for each in names)
    for part, kind in tokenizers.items():
        assert kind in ("CLIPTokenizer", "RobertaTokenizer", "T5TokenizerFast")
        assert [] not in json.loads((folder / part / "tokenizer_config.json").read_text()).values()


def _parts(index: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What a pipeline consists of: each part's name, and its library and class."""
    return [(name, entry) for name, entry in index.items() if isinstance(entry, list)]


def test_an_unknown_name_lists_those_at_hand() -> None:
    with pytest.raises(ad.MiniatureError, match="emoji"):
        ad.load_miniature("photographs")


def test_what_is_asked_for_is_drawn(emoji: Any) -> None:
    """A red apple is red, a frog green, and the corners of both are white."""
    apple, frog = draw(emoji, ["a red apple", "a frog"], steps=20)
    height, width = apple.shape[1:]
    red, green, blue = apple[:, height // 2, width // 2]
    assert red > 0.6 > max(green, blue)
    middle = frog[:, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    assert middle[1].mean() > max(middle[0].mean(), middle[2].mean())
    assert min(apple[:, :2, -2:].mean(), frog[:, -2:, :2].mean()) > 0.85


@pytest.mark.slow
def test_the_promise(emoji: Any) -> None:
    """2.5 times fewer calls at 40 dB, no picture below 28, 8 dB above the two rivals."""
    full = draw(emoji, PROMPTS)
    with ad.accelerate(emoji) as run:
        fidelity = ad.psnr(draw(emoji, PROMPTS), full)
    assert run.report.nfe_reduction >= 2.5
    assert fidelity.mean() >= 40
    assert fidelity.min() >= 28
    nfe = sum(run.report.nfe) / len(PROMPTS)
    fewer_steps = ad.psnr(draw(emoji, PROMPTS, steps=round(nfe)), full).mean()
    assert fidelity.mean() >= fewer_steps + 8
    with ad.accelerate(emoji, ad.ThirdOrder(threshold=0.1)) as rule:
        papers_rule = ad.psnr(draw(emoji, PROMPTS), full).mean()
    assert rule.report.nfe_reduction <= run.report.nfe_reduction * 1.1
    assert fidelity.mean() >= papers_rule + 8
