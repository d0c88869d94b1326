"""Pictures, clips and sounds: what they look like, and that their files hold them."""

from __future__ import annotations

import io
import json
import math
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageSequence

from adaptive_diffusion.apps.closeness import IDENTICAL_DB, closeness
from adaptive_diffusion.apps.encoding import OWN_TEXT, encode_image, enlarged
from adaptive_diffusion.apps.media import (
    SUFFIXES,
    Clip,
    Medium,
    Picture,
    Sound,
    amplification,
    media_of,
)

ENTRIES = {"prompt": "ein großer Apfel", "seed": "3"}
RATE = 8000


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def media(seed: int = 0) -> list[Medium]:
    """One of each kind, and a sound in stereo."""
    return [
        Picture(noise(16, 20, 3, seed=seed)),
        Clip(noise(5, 16, 20, 3, seed=seed)),
        Sound(noise(1, RATE, seed=seed) - 0.5, RATE),
        Sound(noise(2, RATE // 2, seed=seed) - 0.5, RATE),
    ]


each = pytest.mark.parametrize("index", range(4), ids=["picture", "clip", "sound", "stereo"])


@each
def test_every_kind_can_be_looked_at_and_compared(index):
    made, other = media()[index], media(seed=1)[index]
    for picture in (*made.frames, made.still):
        assert picture.ndim == 3
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert made.suffix in SUFFIXES
    assert closeness(made, made) == (math.inf, pytest.approx(1))
    decibels, similarity = closeness(made, other)
    assert 0 < decibels < 40
    assert similarity < 0.9


def test_differences_have_one_scale_that_shows_the_largest():
    near, far = np.full((4, 4, 3), 0.001), np.full((4, 4, 3), -0.02)
    assert amplification([near, far]) == 32  # 0.64 of white; 64 would be beyond it
    assert amplification([near, near, near, far]) == 32
    assert amplification([np.zeros((4, 4, 3))]) == 256
    assert amplification([np.full((4, 4, 3), 0.5)]) == 2


def test_a_still_shows_the_first_and_the_last_frame_of_a_clip():
    clip = Clip(noise(40, 8, 12, 3))
    assert clip.still.shape == (4 * 9 - 1, 4 * 13 - 1, 3)
    assert np.array_equal(clip.still[:8, :12], clip.frames[0])
    assert np.array_equal(clip.still[-8:, -12:], clip.frames[-1])


def test_frames_that_do_not_fill_the_still_leave_white():
    clip = Clip(noise(5, 8, 8, 1))
    assert clip.still.shape == (17, 26, 1)
    assert np.array_equal(clip.still[9:, :8], clip.frames[3])
    assert (clip.still[9:, 18:] == 1).all()
    lines = [clip.still[8, :17], clip.still[:, 8]]
    assert all(np.ptp(line) == 0 for line in lines)


@pytest.mark.parametrize("samples", [100, RATE, 10 * RATE])
def test_a_sounds_still_is_neither_flat_nor_thin(samples):
    height, width, _ = Sound(noise(1, samples) - 0.5, RATE).still.shape
    assert 0.5 <= height / width <= 2


def test_high_frequencies_are_above():
    time = np.arange(RATE, dtype=np.float32) / RATE
    [seen] = Sound(np.sin(2 * np.pi * 3000 * time)[None], RATE).frames
    assert seen.mean(axis=(1, 2)).argmax() == pytest.approx(len(seen) / 4, abs=1)


def test_a_clips_psnr_is_the_mean_over_its_frames():
    film = np.zeros((2, 16, 16, 3), dtype=np.float32)
    other = film.copy()
    other[0] += 0.1
    other[1] += 0.01
    assert closeness(Clip(other), Clip(film))[0] == pytest.approx(30, abs=0.01)
    other[1] = film[1]  # one frame is the same to the bit
    assert closeness(Clip(other), Clip(film))[0] == pytest.approx((20 + IDENTICAL_DB) / 2, abs=0.01)


def test_a_frame_that_is_no_number_is_not_hidden_by_the_others():
    film = noise(3, 16, 16, 3)
    broken = film.copy()
    broken[1, 0, 0] = math.nan
    assert math.isnan(closeness(Clip(broken), Clip(film))[0])


def test_a_png_holds_the_picture_and_its_entries():
    picture = media()[0]
    found = Image.open(io.BytesIO(picture.encode(ENTRIES)))
    assert json.loads(found.text.pop(OWN_TEXT)) == ENTRIES
    assert found.text == {}
    found = Image.open(
        io.BytesIO(picture.encode({**ENTRIES, "parameters": "é, 一只老虎\nSteps: 4"}))
    )
    assert found.text["parameters"] == "é, 一只老虎\nSteps: 4"
    assert json.loads(found.text[OWN_TEXT]) == ENTRIES
    assert np.abs(np.asarray(found) / 255 - picture.pixels).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize("parameters", ["é, 一只老虎\nSteps: 4", None])
def test_a_jpeg_or_webp_holds_its_entries(kind, parameters):
    """The comment as AUTOMATIC1111's web UI writes it, the rest as JSON."""
    entries = ENTRIES if parameters is None else {**ENTRIES, "parameters": parameters}
    image = Image.new("RGB", (16, 20))
    found = Image.open(io.BytesIO(encode_image(image, kind, entries, quality=80)))
    assert found.format == kind.upper()
    exif = found.getexif()
    assert json.loads(exif[ExifTags.Base.ImageDescription]) == ENTRIES
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if parameters is None:
        assert comment is None
    else:
        assert comment[:8] == b"UNICODE\0"
        assert comment[8:].decode("utf-16-be") == parameters


@pytest.mark.parametrize(("length", "left"), [(20_000, "comment"), (100_000, "nothing")])
def test_a_jpeg_keeps_of_its_entries_what_it_has_room_for(length, left):
    entries = {"parameters": "a" * length, "prompt": "a" * length * 2}
    found = Image.open(io.BytesIO(encode_image(Image.new("RGB", (8, 8)), "jpeg", entries)))
    exif = found.getexif()
    assert ExifTags.Base.ImageDescription not in exif
    assert (ExifTags.Base.UserComment in exif.get_ifd(ExifTags.IFD.Exif)) == (left == "comment")


def test_a_gif_holds_the_frames_and_its_entries():
    colours = np.linspace(0, 1, 7, dtype=np.float32)
    frames = np.broadcast_to(colours[:, None, None, None], (7, 16, 20, 3))
    found = Image.open(io.BytesIO(Clip(frames).encode(ENTRIES)))
    assert json.loads(found.info["comment"]) == ENTRIES
    assert found.info["loop"] == 0
    seen = [np.asarray(frame.convert("RGB"))[0, 0, 0] for frame in ImageSequence.Iterator(found)]
    assert np.abs(np.array(seen) / 255 - colours).max() < 0.01


@given(st.integers(1, 2), st.integers(1, 50))
def test_a_wav_holds_the_waveform_and_its_entries(channels, samples):
    sound = Sound(2 * noise(channels, samples) - 1, RATE)
    content = sound.encode(ENTRIES)
    assert int.from_bytes(content[4:8], "little") == len(content) - 8
    start = content.index(b"ICMT")
    length = int.from_bytes(content[start + 4 : start + 8], "little")
    comment = content[start + 8 : start + 8 + length].removesuffix(b"\0")
    assert json.loads(comment) == ENTRIES
    with wave.open(io.BytesIO(content)) as file:
        shape = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
        assert shape == (channels, 2, RATE, samples)
        found = np.frombuffer(file.readframes(samples), "<i2").reshape(samples, channels).T
    assert np.abs(found / 32767 - sound.waveform).max() < 1e-4


def test_what_is_too_loud_is_cut():
    content = Sound(np.array([[-3.0, 3.0]], np.float32), RATE).encode({})
    with wave.open(io.BytesIO(content)) as file:
        assert np.frombuffer(file.readframes(2), "<i2").tolist() == [-32767, 32767]


def test_clips_are_shown_side_by_side_and_sounds_are_both_written():
    picture, clip, sound, _ = media()
    other = Clip(clip.frames / 2)
    assert picture.beside(picture) == {}
    [(suffix, film)] = clip.beside(other).items()
    assert suffix == ".gif"
    found = Image.open(io.BytesIO(film))
    assert found.n_frames == len(clip.frames)
    assert found.size == (3 * 7 * 20, 7 * 16)  # 20 pixels become at least 128
    assert set(sound.beside(sound)) == {"-full.wav", "-accelerated.wav"}


@given(st.integers(1, 300), st.integers(1, 20))
def test_images_are_enlarged_by_whole_pixels(width, height):
    image = noise(height, width, 1)
    shown = enlarged(image, 128)
    factor = shown.shape[1] // width
    assert shown.shape == (height * factor, width * factor, 1)
    assert shown.shape[1] >= 128
    assert np.array_equal(shown[::factor, ::factor], image)


RATES = [
    SimpleNamespace(vocoder=SimpleNamespace(config=SimpleNamespace(sampling_rate=RATE))),
    SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace(sampling_rate=RATE))),
    SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace(sample_rate=RATE))),
]


@pytest.mark.parametrize("shape", [(2, 100), (2, 1, 100), (2, 2, 100)])
@pytest.mark.parametrize("pipe", RATES)
def test_sounds_are_told_with_the_rate_of_what_made_them(pipe, shape):
    made = media_of(SimpleNamespace(audios=noise(*shape)), pipe)
    assert [type(each) for each in made] == [Sound, Sound]
    assert made[0].sampling_rate == RATE
    assert made[0].waveform.shape == (shape[1] if len(shape) == 3 else 1, 100)


def test_pictures_and_clips_are_told_by_their_dimensions():
    pipe = SimpleNamespace()
    assert type(media_of(SimpleNamespace(images=noise(1, 8, 8, 3)), pipe)[0]) is Picture
    assert type(media_of(SimpleNamespace(frames=noise(1, 4, 8, 8, 3)), pipe)[0]) is Clip


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"image_embeds": noise(1, 8)}, "makes neither pictures nor clips nor sounds"),
        ({"images": noise(1, 8)}, "makes neither pictures nor clips nor sounds"),
        ({"audios": noise(1, 8)}, "does not say its sampling rate"),
    ],
    ids=["embeddings", "not pictures", "no rate"],
)
def test_what_is_none_of_them_is_refused(result, words):
    with pytest.raises(ValueError, match=words):
        media_of(SimpleNamespace(**result), SimpleNamespace())
