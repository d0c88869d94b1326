"""PSNR and SSIM against torchmetrics, and where naive versions go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from adaptive_diffusion.numerics.metrics import psnr, ssim


def noise(seed: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 24, 20, generator=torch.Generator().manual_seed(seed))


def structured(seed: int, batch: int = 2) -> Tensor:
    """Gradients with edges: large flat and large varied regions."""
    rows, columns = torch.linspace(0, 1, 24)[:, None], torch.linspace(0, 1, 20)[None]
    phases = torch.arange(batch * 3).reshape(batch, 3, 1, 1) + seed
    waves = 0.5 + 0.5 * torch.sin(6 * rows + phases) * torch.cos(4 * columns - phases)
    return torch.where(columns + rows > 1.2, waves, waves.round())


@pytest.mark.parametrize("make", [noise, structured])
@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
@settings(max_examples=8)
@given(seed=st.integers(0, 50), amount=st.sampled_from([0.003, 0.1, 1.0]))
def test_equals_torchmetrics(make: object, data_range: float, seed: int, amount: float) -> None:
    references = data_range * make(seed)  # type: ignore[operator]
    images = torch.lerp(references, data_range * noise(seed + 100), amount)
    for b in range(2):
        pair = images[b : b + 1], references[b : b + 1]
        expected = peak_signal_noise_ratio(*pair, data_range=data_range)
        assert psnr(images, references, data_range)[b].item() == pytest.approx(
            expected.item(), rel=1e-4
        )
        _, similarity = structural_similarity_index_measure(
            *(x.double() for x in pair), data_range=data_range, return_full_image=True
        )
        inside = similarity[..., 5:-5, 5:-5]  # where no window reaches over the border
        assert ssim(images, references, data_range)[b].item() == pytest.approx(
            inside.mean().item(), abs=1e-6
        )


def test_bytes_do_not_wrap_around() -> None:
    dark = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    bright = dark + 255
    assert psnr(dark, bright, 255).item() == pytest.approx(0.0)
    assert psnr(bright, dark, 255).item() == pytest.approx(0.0)
    assert ssim(dark, bright, 255).item() == pytest.approx(
        ssim(dark.float(), bright.float(), 255).item()
    )


@given(st.integers(0, 50))
def test_equal_images(seed: int) -> None:
    images = noise(seed)
    assert psnr(images, images.clone()).tolist() == [math.inf] * 2
    assert ssim(images, images.clone()).tolist() == pytest.approx([1.0] * 2)


@given(st.integers(0, 50))
def test_both_are_symmetric_and_each_image_counts_for_itself(seed: int) -> None:
    images, references = noise(seed), structured(seed)
    for metric in (psnr, ssim):
        both = metric(images, references)
        assert both.shape == (2,)
        torch.testing.assert_close(metric(references, images), both)
        torch.testing.assert_close(metric(images[1:], references[1:]), both[1:])


def test_psnr_falls_by_20_db_as_the_difference_grows_tenfold() -> None:
    references, change = structured(0), noise(1) - 0.5
    near, far = (psnr(references + scale * change, references) for scale in (0.01, 0.1))
    torch.testing.assert_close(near - far, torch.full_like(near, 20.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_whatever_a_pipeline_returns_is_taken(metric: Callable[..., Tensor]) -> None:
    """Pictures of PIL, arrays, tensors, and lists of them, of bytes or of floats."""
    bytes_ = [(255 * images).byte() for images in (noise(0), structured(0))]
    expected = metric(*(images / 255 for images in bytes_))
    last = [images.movedim(1, -1).numpy() for images in bytes_]
    forms = [
        bytes_,
        last,
        [list(images) for images in last],
        [list(images) for images in bytes_],
        [[Image.fromarray(each) for each in images] for images in last],
        [images.astype("float32") / 255 for images in last],
        [last[0], bytes_[1]],
        [list(bytes_[0]), last[1] / 255],
    ]
    for images, references in forms:
        torch.testing.assert_close(metric(images, references), expected.double())
    one, other = (Image.fromarray(images[0]) for images in last)
    torch.testing.assert_close(metric(one, other), expected[:1].double())
    torch.testing.assert_close(metric(last[0][0], last[1][0]), expected[:1].double())


def test_videos_and_other_modes_are_taken() -> None:
    frames = [Image.fromarray((255 * each).byte().movedim(0, -1).numpy()) for each in noise(0, 4)]
    assert psnr([frames[:2]], [frames[2:]]).shape == (1,)
    assert psnr(frames[0].convert("L"), frames[1].convert("L")).shape == (1,)
    palette = frames[0].convert("P")
    assert psnr(palette, palette.convert("RGB")).tolist() == [math.inf]
    bits = frames[0].convert("1")
    assert psnr(bits, bits.convert("L")).tolist() == [math.inf]


def test_what_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="no images"):
        psnr([], [])
    whole = torch.zeros(1, 3, 16, 16, dtype=torch.int32)
    with pytest.raises(ValueError, match="give data_range for images"):
        psnr(whole, whole)
    assert psnr(whole, whole + 1, 1.0).tolist() == [0.0]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_must_agree(metric: object) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        metric(noise(0), noise(0, batch=1))  # type: ignore[operator]


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 3, 10, 16), (1, 3, 16, 10)])
def test_ssim_needs_room_for_its_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(shape), torch.zeros(shape))
