"""The vocoder without weights: it inverts spectrograms, always alike, and close ones closely."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures.griffin_lim import GriffinLim, mel_filters

RATE, SAMPLES = 8000, 8192


@pytest.fixture(scope="module")
def vocoder() -> GriffinLim:
    return GriffinLim()


@pytest.fixture(scope="module")
def sounds() -> Tensor:
    """A string that dies away, a falling tone, a drum roll, and three notes apart."""
    time = torch.arange(SAMPLES) / RATE
    string = sum(torch.sin(2 * math.pi * 196 * k * time) / k for k in range(1, 12))
    siren = torch.sin(2 * math.pi * (1500 * time - 600 * time**2))
    noise = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
    roll = noise * torch.exp(-20 * (time % 0.2))
    notes = torch.sin(2 * math.pi * 330 * (1 + (4 * time).floor() / 3) * time)
    played = torch.stack(
        [string * torch.exp(-4 * time), siren, roll, notes * ((4 * time) % 1 < 0.6)]
    )
    return 0.5 * played / played.abs().amax(dim=1, keepdim=True)


def test_the_waveform_has_the_spectrogram_that_was_given(
    vocoder: GriffinLim, sounds: Tensor
) -> None:
    """Within 2.5 decibels, root mean square, over a range of 60."""
    given = vocoder.analyse(sounds)
    found = vocoder(given)
    assert found.shape == sounds.shape
    error = (vocoder.analyse(found) - given) * vocoder.config.dynamic_range / 2
    assert (error.square().mean(dim=(1, 2)).sqrt() < 2.5).all()


def test_it_is_far_nearer_than_the_phase_it_begins_with(
    vocoder: GriffinLim, sounds: Tensor
) -> None:
    given = vocoder.analyse(sounds)
    at_once = GriffinLim(iterations=0)
    fidelity = [ad.psnr(v.analyse(v(given)), given, data_range=2.0) for v in (at_once, vocoder)]
    assert (fidelity[1] > fidelity[0] + 3).all()


def test_the_same_spectrogram_gives_the_same_samples(vocoder: GriffinLim, sounds: Tensor) -> None:
    """In another call, from another instance, and whatever was drawn from torch's generator."""
    given = vocoder.analyse(sounds)
    first = vocoder(given)
    torch.manual_seed(1)
    assert torch.equal(vocoder(given), first)
    assert torch.equal(GriffinLim()(given), first)


def test_a_batch_gives_what_single_runs_give(vocoder: GriffinLim, sounds: Tensor) -> None:
    given = vocoder.analyse(sounds)
    alone = torch.cat([vocoder(each[None]) for each in given])
    assert (ad.psnr(vocoder.analyse(alone), vocoder.analyse(vocoder(given)), 2.0) > 60).all()


def test_close_spectrograms_give_close_sounds(vocoder: GriffinLim, sounds: Tensor) -> None:
    """An error at 50 dB stays above 40: no error is made large by chaos."""
    given = vocoder.analyse(sounds)
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(0))
    error = functional.avg_pool2d(noise, 3, stride=1, padding=1)
    disturbed = given + 2 * 10 ** (-50 / 20) * error / error.std()
    heard = [vocoder.analyse(vocoder(each)) for each in (disturbed, given)]
    assert (ad.psnr(*heard, data_range=2.0) > 40).all()


def test_a_pure_tone_is_one_at_its_pitch_and_silence_is_minus_one(vocoder: GriffinLim) -> None:
    """Also back: the softest level gives exact silence."""
    time = torch.arange(SAMPLES) / RATE
    tone, silence = torch.sin(2 * math.pi * 1000 * time), torch.zeros(SAMPLES)
    levels = vocoder.analyse(torch.stack([tone, silence]))
    middle = levels[0, 32]
    loudest = vocoder.filters[middle.argmax()].argmax() * RATE / 512
    assert abs(loudest - 1000) < 60
    assert abs(middle.max() - 1) < 0.1
    assert (levels[1] == -1).all()
    assert (vocoder(levels)[1] == 0).all()


def test_every_filter_hears_something_and_together_they_hear_all() -> None:
    """Triangles that overlap by half add up to one between the first and the last middle."""
    filters = mel_filters(64, 257, RATE)
    assert (filters.sum(dim=1) > 0.5).all()
    covered = filters.sum(dim=0)[3:244]
    torch.testing.assert_close(covered, torch.ones_like(covered))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_is_saved_and_loaded(tmp_path: Path, sounds: Tensor, dtype: torch.dtype) -> None:
    """With its settings; in half precision it still computes in full."""
    saved = GriffinLim(upsample_rates=(8, 16), iterations=5)
    saved.save_pretrained(tmp_path)
    loaded = GriffinLim.from_pretrained(tmp_path, torch_dtype=dtype)
    assert loaded.config.iterations == 5
    assert loaded.dtype == dtype
    given = saved.analyse(sounds)
    made = loaded(given.to(dtype))
    assert made.dtype == dtype
    if dtype == torch.float32:
        assert torch.equal(made, saved(given))
    else:
        assert (ad.psnr(saved.analyse(made), saved.analyse(saved(given)), 2.0) > 25).all()
