"""What calls make, whatever it is in, as tensors that can be compared."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptive_diffusion.checking.outputs import Outputs

PICTURES = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)


def of(result: Any) -> Outputs:
    return Outputs.of(result, SimpleNamespace())


def as_images() -> list[Image.Image]:
    return [Image.fromarray((255 * each).astype(np.uint8)) for each in PICTURES]


@pytest.mark.parametrize(
    "result",
    [
        PICTURES,
        torch.from_numpy(PICTURES),
        (PICTURES, None),
        {"images": PICTURES, "flags": [False, False]},
        SimpleNamespace(images=PICTURES, text="two pictures"),
        [SimpleNamespace(inner={"deep": torch.from_numpy(PICTURES)})],
        as_images(),
        SimpleNamespace(images=as_images()),
    ],
    ids=["array", "tensor", "tuple", "dict", "object", "nested", "pictures", "object of pictures"],
)
def test_every_container_is_looked_into(result: Any) -> None:
    (array,) = of(result).arrays
    assert array.shape == (2, 8, 8, 3)
    assert len(of(result)) == 2
    assert of(result).decibels(of(result)) == math.inf
    assert [len(of(result).of_sample(index, 2)) for index in range(2)] == [1, 1]


@pytest.mark.parametrize("result", ["text", None, [], 3, np.array(["text"])], ids=str)
def test_nothing_to_compare(result: Any) -> None:
    assert not of(result).arrays or not of(result).arrays[0].numel()


def test_decibels_are_those_of_the_worst_sample_in_the_range_of_pictures() -> None:
    changed = PICTURES.copy()
    changed[1] = PICTURES[1] + 0.1
    found = of(changed).decibels(of(PICTURES))
    assert found == pytest.approx(20, abs=1e-3)
    bytes_found = of(np.full((1, 8, 8), 100, np.uint8)).decibels(
        of(np.full((1, 8, 8), 90, np.uint8))
    )
    assert bytes_found == pytest.approx(20 * math.log10(255 / 10))


def test_decibels_of_latents_are_in_their_own_range() -> None:
    latents = torch.linspace(-5, 5, 64).reshape(1, 4, 4, 4)
    assert of(latents + 0.1).decibels(of(latents)) == pytest.approx(40, abs=1e-3)


def test_sounds_are_compared_by_their_spectrograms() -> None:
    pipe = SimpleNamespace(vocoder=SimpleNamespace(config=SimpleNamespace(sampling_rate=8000)))
    wave = torch.sin(torch.arange(4000) * 0.3)[None].numpy()
    sound, inverted = (Outputs.of(SimpleNamespace(audios=each), pipe) for each in (wave, -wave))
    assert sound.sampling_rate == 8000
    assert inverted.decibels(sound) > 60
    assert of(-wave).decibels(of(wave)) < 10


def test_what_can_not_be_compared_is_as_far_as_can_be() -> None:
    others = [of(PICTURES[:1]), of([PICTURES, PICTURES]), of(PICTURES * np.nan)]
    for other in others:
        assert other.decibels(of(PICTURES)) == -math.inf


def test_values_that_are_not_numbers_are_the_same_where_they_are_the_same() -> None:
    broken = PICTURES.copy()
    broken[0, 0, 0] = np.nan
    assert not of(broken).is_finite
    assert of(broken).decibels(of(broken.copy())) == math.inf
    assert of(PICTURES).is_finite
