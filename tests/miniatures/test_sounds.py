"""The sounding one among the miniatures: it loads offline, is heard as asked, and is sped up.

What it has learned is measured by the recipe (see its model card); here four prompts stand for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AudioLDMPipeline, DiffusionPipeline
from torch import Tensor
from torch.nn import functional

import adaptive_diffusion as ad
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline
from adaptive_diffusion.miniatures import GUIDANCE, miniatures
from adaptive_diffusion.miniatures.griffin_lim import GriffinLim

SAMPLES = 8192


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = ad.load_miniature("sounds")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def play(pipe: Any, prompts: list[str], steps: int) -> Tensor:
    """Waveforms with the seeds 0, 1, ...; `(B, samples)`."""
    result = pipe(
        prompts,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE["sounds"],
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
    )
    return torch.from_numpy(result.audios)


def pitch(pipe: Any, waveform: Tensor) -> float:
    """The loudest mel band of most of the frames that are not much softer than the loudest."""
    loudest, bands = pipe.vocoder.analyse(waveform[None])[0].max(dim=1)
    return bands[loudest > loudest.max() - 0.5].float().median().item()


def strokes(pipe: Any, waveform: Tensor) -> int:
    """How often it becomes louder by 6 decibels within two frames."""
    loudness = pipe.vocoder.analyse(waveform[None])[0].amax(dim=1)
    rises = functional.pad(loudness[2:] - loudness[:-2] > 0.2, (1, 0))
    return int((rises[1:] & ~rises[:-1]).sum())


def test_it_is_an_audioldm_pipeline_in_full_precision(pipe: Any) -> None:
    assert type(pipe) is AudioLDMPipeline
    assert type(pipe.vocoder) is GriffinLim
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.vocoder)
    assert all(part.dtype == torch.float32 for part in parts)


def test_a_few_steps_make_a_sound(pipe: Any) -> None:
    waveform = play(pipe, ["a bell playing a high note"], steps=4)
    assert waveform.shape == (1, SAMPLES)
    assert waveform.isfinite().all()
    assert waveform.abs().max() > 0.01


def test_a_prompt_is_encoded_the_same_beside_a_longer_one(pipe: Any) -> None:
    def encode(prompts: list[str]) -> Tensor:
        return pipe._encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=False)

    together = encode(["a deep bell", "the same short note again and again on a guitar"])
    torch.testing.assert_close(encode(["a deep bell"]), together[:1])


def test_it_is_saved_and_loaded_by_path(pipe: Any, tmp_path: Path) -> None:
    """As the command line loads a folder, and as diffusers does once the vocoder is imported."""
    pipe.save_pretrained(tmp_path)
    expected = play(pipe, ["a drum"], steps=2)
    for loaded in (
        load_pipeline(str(tmp_path), LoadOptions(device="cpu", safetensors_only=True)),
        DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True),
    ):
        loaded.set_progress_bar_config(disable=True)
        assert torch.equal(play(loaded, ["a drum"], steps=2), expected)


def test_it_fits_the_folder() -> None:
    """At most 12 MB, the WAV files together at most 50 kB."""
    folder = miniatures()["sounds"]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 12e6
    assert sum(file.stat().st_size for file in folder.glob("*.wav")) < 50e3


def test_the_default_tolerance_skips_something(pipe: Any) -> None:
    with ad.accelerate(pipe) as run:
        play(pipe, ["a whistle playing a high note"], steps=30)
    assert run.report.nfe[0] < 30


def test_what_is_asked_for_is_heard(pipe: Any) -> None:
    """A low whistle lies below a high one; repeated notes on a drum are more than one."""
    prompts = [
        "a whistle playing a low note",
        "a whistle playing a high note",
        "a drum playing a low note",
        "a drum playing short repeated notes",
    ]
    low, high, once, again = play(pipe, prompts, steps=20)
    assert pitch(pipe, low) + 8 < pitch(pipe, high)
    assert strokes(pipe, once) <= 2 < 4 <= strokes(pipe, again)


@pytest.mark.slow
def test_the_promise(pipe: Any) -> None:
    """2.5 times fewer calls at 38 dB on the log-mel spectrogram of what is heard."""
    prompts = [
        f"a {instrument} playing {way}"
        for instrument in ("bell", "flute", "guitar", "whistle")
        for way in ("a low note", "three rising notes")
    ]
    full = play(pipe, prompts, steps=50)
    with ad.accelerate(pipe) as run:
        quick = play(pipe, prompts, steps=50)
    heard = [pipe.vocoder.analyse(each) for each in (quick, full)]
    assert run.report.nfe_reduction >= 2.5
    assert ad.psnr(*heard, data_range=2.0).mean() >= 38
