"""A spectrogram shows what can be heard, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from adaptive_diffusion.numerics.spectrogram import DYNAMIC_RANGE_DB, spectrogram

RATE = 8000


def tone(hertz: float, amplitude: float = 1.0, phase: float = 0.0) -> torch.Tensor:
    time = torch.arange(RATE) / RATE
    return amplitude * torch.sin(2 * math.pi * hertz * time + phase)[None]


def inside(seen: torch.Tensor) -> torch.Tensor:
    """Without the ends, where a window reaches beyond the sound."""
    return seen[..., 4:-4]


@pytest.mark.parametrize("hertz", [500, 1000, 3000])
def test_a_tone_is_a_line_at_its_frequency(hertz):
    [seen] = inside(spectrogram(tone(hertz), RATE))
    frequencies, _ = seen.shape
    loudest = seen.mean(dim=1).argmax().item()
    assert loudest == hertz / (RATE / 2) * (frequencies - 1)
    assert seen[loudest].min() > 0.999  # a tone of amplitude 1
    assert (seen > 0.5).sum(dim=0).max() <= 5  # and a line


@pytest.mark.parametrize("below", [6, 20, 60])
def test_decibels_are_evenly_spread_over_the_range(below):
    [loud, soft] = spectrogram(torch.cat([tone(1000), tone(1000, 10 ** (-below / 20))]), RATE)
    assert loud.max() - soft.max() == pytest.approx(below / DYNAMIC_RANGE_DB, abs=1e-3)


def test_silence_is_nothing_and_so_is_what_is_below_the_range():
    assert (spectrogram(torch.zeros(1, RATE), RATE) == 0).all()
    assert (inside(spectrogram(tone(1000, 0.9e-4), RATE)) == 0).all()
    assert (spectrogram(tone(1000, 100.0), RATE) <= 1).all()


def test_the_phase_is_not_seen():
    a, b = (inside(spectrogram(tone(1000, phase=phase), RATE)) for phase in (0.0, 2.0))
    loud = a > 0.5
    assert torch.allclose(a[loud], b[loud], atol=1e-3)


@pytest.mark.parametrize(("rate", "frequencies"), [(50, 33), (8000, 129), (44100, 513)])
def test_windows_take_about_as_long_at_any_rate(rate, frequencies):
    seen = spectrogram(torch.randn(2, rate), rate)
    assert seen.shape[:2] == (2, frequencies)


def test_sounds_of_a_batch_do_not_meet():
    pair = torch.cat([tone(500), tone(3000)])
    assert torch.equal(spectrogram(pair, RATE)[1], spectrogram(pair[1:], RATE)[0])


@pytest.mark.parametrize("samples", [1, 10])
def test_a_sound_shorter_than_a_window_is_padded(samples):
    assert spectrogram(torch.ones(1, samples), RATE).isfinite().all()


def test_what_is_no_number_stays_none():
    assert spectrogram(torch.full((1, RATE), math.nan), RATE).isnan().all()
