"""How close a sample is to the full run's: one measure for pictures, clips and sounds."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.numerics.metrics import SMALLEST_SSIM, psnr, ssim

__all__ = ["IDENTICAL_DB", "closeness", "frames"]

IDENTICAL_DB = 120.0
"""What the PSNR of identical frames counts as where a mean is taken: it would be infinite. Float
frames with less than a millionth of the range between them count the same."""


def closeness(made: Medium, reference: Medium) -> tuple[float, float]:
    """PSNR in dB and SSIM of a sample, in float: the means over its frames.

    Of a clip that is frame by frame; of a sound, on the spectrogram of each channel. The PSNR is
    infinite where all frames are equal to the bit, and not a number where one has values that are
    none; the SSIM is not a number below 11 pixels.

    Raises `ValueError` if the two have different shapes.
    """
    a, b = frames(made), frames(reference)
    each = psnr(a, b)
    identical = bool(each.isposinf().all())
    decibels = math.inf if identical else each.clamp(max=IDENTICAL_DB).mean().item()
    large = min(a.shape[-2:]) >= SMALLEST_SSIM
    return decibels, ssim(a, b).mean().item() if large else math.nan


def frames(medium: Medium) -> Tensor:
    """The frames as `(F, C, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(medium.frames)).movedim(-1, 1)
