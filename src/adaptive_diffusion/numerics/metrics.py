r"""Fidelity of one image to another, computed in float on decoded outputs.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{R^2}{\mathrm{mean}\,(a-b)^2}

with :math:`R` the range of values. SSIM follows Wang et al., "Image Quality Assessment: From Error
Visibility to Structural Similarity", IEEE TIP 2004, eq. 13, with its 11-pixel Gaussian window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["SMALLEST_SSIM", "psnr", "ssim"]

SMALLEST_SSIM = 11
"""Pixels: the window of the measure, below which an image has none."""

_BYTE_RANGE = 255.0


def psnr(images: Any, references: Any, data_range: float | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image; infinite where two images are equal.

    Args:
        images: a tensor `(B, ...)`, a NumPy array `(B, H, W, C)`, a picture of PIL, or a list of
            pictures, arrays `(H, W, C)` or tensors `(C, H, W)`; a list of lists for videos.
        references: as many of the same shape.
        data_range: of the values; by default 255 for bytes, as PIL has them, and 1 for floats.

    Returns:
        A tensor `(B,)`.

    Raises:
        ValueError: if the shapes differ, or whole numbers that are no bytes come without a range.
    """
    a, b, scale = _prepared(images, references, data_range)
    mean_square = (a - b).square().reshape(len(a), -1).mean(dim=1)
    return 10 * torch.log10(scale**2 / mean_square)


def ssim(images: Any, references: Any, data_range: float | None = None) -> Tensor:
    """Structural similarity of each image, 1 where two are equal.

    Args:
        images: as for `psnr`; a tensor has the shape `(B, C, H, W)`, at least 11 pixels high and
            wide.
        references: as many of the same shape.
        data_range: as for `psnr`.

    Returns:
        A tensor `(B,)`.

    Raises:
        ValueError: as `psnr` does, and on other shapes.
    """
    a, b, scale = _prepared(images, references, data_range)
    if a.ndim != 4 or min(a.shape[-2:]) < SMALLEST_SSIM:
        raise ValueError(f"ssim needs (B, C, H, W) of at least 11x11 pixels: {tuple(a.shape)}")
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * scale) ** 2, (0.03 * scale) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _prepared(
    images: Any, references: Any, data_range: float | None
) -> tuple[Tensor, Tensor, float]:
    """Both in double precision (differences of bytes would wrap around), and their range."""
    a, b = _batch(images), _batch(references)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    if data_range is None:
        return _from_0_to_1(a), _from_0_to_1(b), 1.0
    return a.double(), b.double(), data_range


def _from_0_to_1(images: Tensor) -> Tensor:
    if images.is_floating_point():
        return images.double()
    if images.dtype == torch.uint8:
        return images.double() / _BYTE_RANGE
    raise ValueError(f"give data_range for images of {images.dtype}")


def _batch(images: Any) -> Tensor:
    """Images of any kind as a tensor, `(B, C, H, W)` if they are pictures."""
    if isinstance(images, Tensor):
        return images
    if isinstance(images, list | tuple):
        if not images:
            raise ValueError("there are no images")
        return torch.stack([_image(each) for each in images])
    array = _array(images)
    return _channels_first(array) if array.ndim > 3 else _image(images)[None]


def _image(image: Any) -> Tensor:
    """One of a list: `(C, H, W)`, or `(F, C, H, W)` for a video's frames."""
    if isinstance(image, Tensor):
        return image
    if isinstance(image, list | tuple):
        return _batch(image)
    return _channels_first(_array(image))


def _array(image: Any) -> Tensor:
    """A NumPy array or a picture of PIL, with the channels last."""
    import numpy

    mode = getattr(image, "mode", None)
    if mode in ("1", "P"):  # bits, and numbers of colours
        image = image.convert("L" if mode == "1" else "RGB")
    return torch.from_numpy(numpy.array(image))


def _channels_first(array: Tensor) -> Tensor:
    return array[None] if array.ndim == 2 else array.movedim(-1, -3)


def _blur(images: Tensor) -> Tensor:
    offsets = torch.arange(11, dtype=images.dtype, device=images.device) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    channels = images.shape[1]
    kernel = torch.outer(window, window).expand(channels, 1, 11, 11)
    return functional.conv2d(images, kernel, groups=channels)
