"""A vocoder without weights: waveforms from log-mel spectrograms, after Griffin and Lim.

It stands where text-to-audio pipelines of diffusers have a trained one.  Diffusers imports no
module that a model's folder names, so this one has to be imported before such a folder is loaded.
"""

from __future__ import annotations

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor
from torch.nn import functional

__all__ = ["GriffinLim", "mel_filters"]

_TINY = 1e-8  # keeps silence from dividing by zero


class GriffinLim(ModelMixin, ConfigMixin):
    """Log-mel spectrograms to waveforms, and back.

    A spectrogram's values are decibels, linearly brought to [-1, 1]: 1 is a mel magnitude of 1,
    that of a pure tone of amplitude 1, and -1 is `dynamic_range` decibels less, or anything below,
    and made silence.

    The waveform is found by the fast iteration of Perraudin, Balazs and Søndergaard (2013) on
    Griffin and Lim's.  In each of them the magnitudes, of which mel values leave much open, are
    moved towards those values by Lee and Seung's multiplicative update (2000), which keeps them
    non-negative.  The same spectrogram always gives the same waveform: the phase it begins with is
    drawn once and for all.  From a drawn phase, and after few iterations, spectrograms that are
    close also give waveforms that are; from phase zero, or after many, they would not.

    Args:
        model_in_dim: mel bands, spread from 0 to half the sampling rate.
        sampling_rate: samples per second.
        upsample_rates: their product is the number of samples from one frame to the next.
        frame_length: samples that a frame looks at.
        dynamic_range: decibels between the loudest and the softest value.
        iterations: more bring the waveform's spectrogram nearer to the one that was given.
        momentum: how far each of them is carried on; 0 is the original method.
    """

    @register_to_config
    def __init__(
        self,
        model_in_dim: int = 64,
        sampling_rate: int = 8000,
        upsample_rates: tuple[int, ...] = (128,),
        frame_length: int = 512,
        dynamic_range: float = 60.0,
        iterations: int = 32,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.hop = math.prod(upsample_rates)
        self.frame_length = frame_length
        self.dynamic_range = dynamic_range
        self.iterations = iterations
        self.momentum = momentum
        filters = mel_filters(model_in_dim, frame_length // 2 + 1, sampling_rate)
        self.register_buffer("filters", filters)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor) -> Tensor:
        """Waveforms `(B, T * hop)` with the log-mel spectrograms `(B, T, model_in_dim)`."""
        mel = _to_magnitude(spectrogram.float(), self.dynamic_range).transpose(1, 2)
        phase = _drawn_phase(mel.shape[2], self.filters.shape[1]).to(mel.device)
        magnitude = self._towards(mel, torch.ones_like(phase))
        spectrum = torch.polar(magnitude, phase.expand_as(magnitude))
        before = torch.zeros_like(spectrum)
        for _ in range(self.iterations):
            consistent = self._transform(self._invert(spectrum))
            ahead = consistent + self.momentum * (consistent - before)
            before = consistent
            spectrum = self._towards(mel, consistent.abs()) * torch.sgn(ahead)
        return self._invert(spectrum).to(spectrogram.dtype)

    @torch.no_grad()
    def analyse(self, waveform: Tensor) -> Tensor:
        """The log-mel spectrograms `(B, N / hop, model_in_dim)` of waveforms `(B, N)`."""
        mel = self.filters.float() @ self._transform(waveform.float()).abs()
        return _to_level(mel, self.dynamic_range).transpose(1, 2)

    def _towards(self, mel: Tensor, magnitude: Tensor) -> Tensor:
        """Magnitudes `(B, bins, T)` whose mel values are nearer to those given, `(B, bands, T)`."""
        filters = self.filters.float()
        ratio = mel / (filters @ magnitude).clamp(min=_TINY)
        weight = filters.sum(dim=0)[:, None]  # 0 at the bins 0 and half the sampling rate
        return magnitude * (filters.T @ ratio) / weight.clamp(min=_TINY)

    def _transform(self, waveform: Tensor) -> Tensor:
        """Short-time Fourier transform: `(B, N)` to `(B, bins, N / hop)`, a pure tone being 1."""
        margin = (self.frame_length - self.hop) // 2
        window = self._window(waveform)
        spectrum = torch.stft(
            functional.pad(waveform, (margin, margin)),
            self.frame_length,
            self.hop,
            window=window,
            center=False,
            return_complex=True,
        )
        return spectrum * (2 / window.sum())

    def _invert(self, spectrum: Tensor) -> Tensor:
        """The waveform whose transform is nearest: overlapping frames, added up and weighed."""
        margin = (self.frame_length - self.hop) // 2
        window = self._window(spectrum.real)
        frames = torch.fft.irfft(spectrum * (window.sum() / 2), n=self.frame_length, dim=1)
        pair = torch.stack([frames * window[:, None], (window**2)[:, None].expand_as(frames)])
        length = (spectrum.shape[-1] - 1) * self.hop + self.frame_length
        summed, weight = functional.fold(
            pair.flatten(0, 1), (1, length), (1, self.frame_length), stride=(1, self.hop)
        ).view(2, -1, length)
        return (summed / weight.clamp(min=_TINY))[:, margin:-margin]

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.frame_length, device=like.device)


def _drawn_phase(frames: int, bins: int) -> Tensor:
    """`(bins, frames)` radians from a fixed seed; those of more frames begin with them."""
    generator = torch.Generator().manual_seed(0)
    return 2 * math.pi * torch.rand(frames, bins, generator=generator).T


def mel_filters(bands: int, bins: int, sampling_rate: int) -> Tensor:
    """Triangles of height 1 that overlap by half, evenly spread over O'Shaughnessy's mel scale.

    Returns:
        `(bands, bins)` in float32.
    """
    highest = 2595 * math.log10(1 + sampling_rate / 2 / 700)
    mels = torch.linspace(0, highest, bands + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.linspace(0, sampling_rate / 2, bins, dtype=torch.float64)
    low, middle, high = (edges[i : bands + i, None] for i in range(3))
    rise, fall = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rise, fall).clamp(min=0).float()


def _to_level(magnitude: Tensor, dynamic_range: float) -> Tensor:
    decibels = 20 * magnitude.clamp(min=_TINY).log10()
    return (2 * decibels / dynamic_range + 1).clamp(min=-1)


def _to_magnitude(level: Tensor, dynamic_range: float) -> Tensor:
    """The power above that of the softest level, so that what is near it fades into silence."""
    power, softest = 10 ** ((level - 1) * dynamic_range / 20), 10 ** (-dynamic_range / 10)
    return (power - softest).clamp(min=0).sqrt()
