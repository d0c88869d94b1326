r"""Fidelity of one image to another, computed in float on decoded outputs.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{R^2}{\mathrm{mean}\,(a-b)^2}

with :math:`R` the range of values. SSIM follows Wang et al., "Image Quality Assessment: From Error
Visibility to Structural Similarity", IEEE TIP 2004, eq. 13, with its 11-pixel Gaussian window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["SMALLEST_SSIM", "psnr", "ssim"]

SMALLEST_SSIM = 11
"""Pixels: the window of the measure, below which an image has none."""


def psnr(images: Tensor, references: Tensor, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image; infinite where two images are equal.

    `images` and `references` have the same shape `(B, ...)`; the result has shape `(B,)`.
    Whole-number images are converted first: differences of unsigned bytes would wrap around.
    Raises `ValueError` if the shapes differ.
    """
    _check_shapes(images, references)
    difference = images.double() - references.double()
    mean_square = difference.square().reshape(len(images), -1).mean(dim=1)
    return 10 * torch.log10(data_range**2 / mean_square)


def ssim(images: Tensor, references: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each image, 1 where two are equal.

    `images` and `references` have shape `(B, C, H, W)`, at least 11 pixels high and wide; the
    result has shape `(B,)`. Raises `ValueError` on other shapes.
    """
    _check_shapes(images, references)
    if images.ndim != 4 or min(images.shape[-2:]) < SMALLEST_SSIM:
        raise ValueError(f"ssim needs (B, C, H, W) of at least 11x11 pixels: {images.shape}")
    a, b = images.double(), references.double()
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(images: Tensor) -> Tensor:
    offsets = torch.arange(11, dtype=images.dtype, device=images.device) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    channels = images.shape[1]
    kernel = torch.outer(window, window).expand(channels, 1, 11, 11)
    return functional.conv2d(images, kernel, groups=channels)


def _check_shapes(images: Tensor, references: Tensor) -> None:
    if images.shape != references.shape:
        raise ValueError(f"shapes differ: {tuple(images.shape)} and {tuple(references.shape)}")
