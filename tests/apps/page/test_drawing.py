"""What runs look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from file_entries import entries_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toy_statistics import statistics_on

from adaptive_diffusion.apps.media import Picture, Sound
from adaptive_diffusion.apps.page.drawing import (
    batch_status,
    fidelity,
    pictures,
    pixels,
    planned_by,
    status,
    temporary_file,
)
from adaptive_diffusion.apps.page.race import View
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.policies import ErrorControlled, Planned

ENTRIES = (("prompt", "a red apple"), ("seed", "3"))


@given(st.integers(1, 900), st.integers(1, 40))
def test_small_pictures_are_enlarged_by_whole_pixels(width: int, height: int) -> None:
    image = np.linspace(0, 1, width * height * 3).reshape(height, width, 3)
    shown = pixels(image)
    factor = shown.shape[1] // width
    assert shown.shape == (height * factor, width * factor, 3)
    assert shown.shape[1] >= 384
    assert np.array_equal(shown[::factor, ::factor], (image * 255).round().astype(np.uint8))


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60))
def test_a_timeline_has_a_cell_for_every_step(mask: list[bool], steps: int) -> None:
    shown = status(View(masks=(tuple(mask),), seconds=1.0), steps)
    assert shown.count("class=computed") == sum(mask)
    assert shown.count("class=skipped") == len(mask) - sum(mask)
    assert shown.count("class=to-come") == max(0, steps - len(mask))
    assert 'class="run"' in shown


def test_a_finished_run_says_what_it_made_of_how_many_steps() -> None:
    shown = status(View(masks=((True, False, True),), seconds=2.345, done=True), 3, "a <b>")
    assert "2.35 s" in shown or "2.34 s" in shown
    assert "2 of 3 denoiser calls" in shown
    assert "a &lt;b&gt;" in shown
    assert 'class="run done"' in shown


def test_a_run_that_has_not_begun_shows_that_it_waits_and_a_cancelled_one_says_so() -> None:
    assert "waiting" in status(View(), 3)
    assert status(View(cancelled=True), 3).count("cancelled") == 1
    shown = status(View(masks=((True, False),), cancelled=True), 3)
    assert "· cancelled<" in shown
    assert shown.count("class=computed") == 1


def test_notes_stand_below_the_timeline() -> None:
    shown = status(View(masks=((True,),), done=True, notes=("a <b>",)), 1)
    assert '<p class="note">a &lt;b&gt;</p>' in shown


def test_it_is_told_what_a_plan_was_made_with() -> None:
    stream = statistics_on(NoiseSchedule.uniform(20))
    assert planned_by(Planned(9, ((stream,),))) == ("measured plan",)
    assert planned_by(Planned(9)) == ("plan without a profile",)
    assert planned_by(ErrorControlled()) == planned_by(None) == ()


def test_a_batch_has_a_timeline_for_every_sample() -> None:
    shown = batch_status(View(masks=((True, False), (True, True)), seconds=1.0), 2)
    assert shown.count("class=computed") == 3
    assert "1.5 denoiser calls each" in shown


def test_a_medium_has_one_file_however_often_it_is_shown() -> None:
    sound = Sound(np.zeros((1, 400), np.float32), 8000)
    path = temporary_file(sound, ENTRIES)
    assert temporary_file(sound, ENTRIES) == path
    assert temporary_file(Sound(sound.waveform, 8000), ENTRIES) != path
    assert Path(path).read_bytes() == sound.encode(dict(ENTRIES))


def test_a_finished_picture_is_a_file_that_says_how_it_was_made() -> None:
    image = np.linspace(0, 1, 32 * 32 * 3, dtype=np.float32).reshape(32, 32, 3)
    view = View([Picture(image)], ((True,),))
    [preview] = pictures(view)
    assert np.array_equal(preview, pixels(image))
    [path] = pictures(replace(view, done=True, entries=(ENTRIES,)))
    assert np.array_equal(np.asarray(Image.open(path)), preview)
    assert entries_of(Path(path)) == dict(ENTRIES)


def test_fidelity_is_told() -> None:
    image = np.full((384, 384, 3), 0.5, dtype=np.float32)
    other = image + 0.02
    assert fidelity(Picture(image), Picture(image)) == "PSNR identical"
    assert fidelity(Picture(other), Picture(image)) == "PSNR 34.0 dB"
