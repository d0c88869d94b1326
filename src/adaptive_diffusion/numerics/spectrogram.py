r"""A sound as a picture: what is heard, without the phase that is not.

.. math:: S = 1 + \mathrm{max}\left(-1, \frac{20 \log_{10} |X|}{D}\right)

with :math:`X` the short-time Fourier transform under a Hann window, in units of a tone of amplitude
1, and :math:`D` the dynamic range: 1 is that tone, 0 is what is :math:`D` below it, or silence. An
error of 0.1 is 8 dB at the default range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["DYNAMIC_RANGE_DB", "spectrogram"]

DYNAMIC_RANGE_DB = 80.0

_WINDOW_SECONDS = 0.032
_SMALLEST_WINDOW = 64  # samples
_HOPS_PER_WINDOW = 4


def spectrogram(
    waveforms: Tensor, sampling_rate: int, dynamic_range_db: float = DYNAMIC_RANGE_DB
) -> Tensor:
    """The log-magnitude spectrogram of each waveform, from 0 to 1.

    Windows take about 32 milliseconds, a power of two in samples, and follow each other at a
    quarter of that. `waveforms` has shape `(B, N)`; the result has shape `(B, frequencies, times)`,
    the lowest frequency first.
    """
    exponent = round(math.log2(_WINDOW_SECONDS * sampling_rate))
    length = max(_SMALLEST_WINDOW, 2**exponent)
    window = torch.hann_window(length, dtype=torch.float64, device=waveforms.device)
    transform = torch.stft(
        waveforms.double(),
        length,
        hop_length=length // _HOPS_PER_WINDOW,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    magnitude = transform.abs() * (2 / window.sum())
    decibels = 20 * torch.log10(magnitude)  # silence gives minus infinity, which is cut off
    return (1 + decibels / dynamic_range_db).clamp(0, 1).float()
