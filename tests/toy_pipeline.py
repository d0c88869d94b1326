"""A pipeline whose denoiser is a formula: the true one, for pictures of dark and bright pixels.

It is as nonlinear as a trained model's, and takes microseconds: tests can run it a hundred times.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional

_COARSE, _SIZE = 4, 16
_SCATTER = 0.1  # variance


class DarkAndBright(nn.Module):
    """The noise in a sample whose clean values are scattered about -contrast and contrast."""

    def __init__(self, alphas: Tensor) -> None:
        super().__init__()
        self.alphas = alphas

    def forward(self, x: Tensor, t: Tensor, contrast: float) -> Tensor:
        alpha = self.alphas[int(t)]
        variance = alpha * _SCATTER + 1 - alpha
        side = contrast * torch.tanh(alpha.sqrt() * contrast * x / variance)
        clean = alpha.sqrt() * _SCATTER * x / variance + (1 - alpha) / variance * side
        return (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()


class ToyPipeline:
    """Called like a text-to-image pipeline; a longer prompt makes a picture of more contrast.

    Attributes:
        calls: how often it has been called.
    """

    def __init__(self) -> None:
        self.scheduler = DDIMScheduler(clip_sample=False)
        self.unet = DarkAndBright(self.scheduler.alphas_cumprod)
        self.components = {"unet": self.unet, "scheduler": self.scheduler}
        self.calls = 0

    def __call__(
        self,
        prompt: str,
        num_inference_steps: int = 30,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> Any:
        self.calls += 1
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(1, 3, _COARSE, _COARSE, generator=generator)
        for t in self.scheduler.timesteps:
            noise = self.unet(x, t, 0.5 + len(prompt) / 40)
            x = self.scheduler.step(noise, t, x).prev_sample
        return self.output(functional.interpolate(x, _SIZE, mode="bilinear") / 2 + 0.5)

    def output(self, pictures: Tensor) -> Any:
        """What the call returns, of pictures `(1, 3, H, W)`."""
        return SimpleNamespace(images=_channels_last(pictures))


class ToyUnevenPipeline(ToyPipeline):
    """Takes more steps for a longer prompt."""

    def __call__(self, prompt: str, **options: Any) -> Any:
        return super().__call__(prompt, num_inference_steps=20 + len(prompt) // 2, **options)


class ToyVideoPipeline(ToyPipeline):
    """Makes a video of two frames, the second darker."""

    def output(self, pictures: Tensor) -> Any:
        frames = torch.stack([pictures, pictures / 2], dim=1)
        return SimpleNamespace(frames=np.moveaxis(frames.numpy(), 2, -1))


class ToySoundPipeline(ToyPipeline):
    """Makes a sound of 768 samples: its picture, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.vocoder = SimpleNamespace(config=SimpleNamespace(sampling_rate=8000))

    def output(self, pictures: Tensor) -> Any:
        return SimpleNamespace(audios=(pictures.flatten(1) - 0.5).numpy())


class ToyEmbeddingPipeline(ToyPipeline):
    """Makes something that is no picture."""

    def output(self, pictures: Tensor) -> Any:
        return SimpleNamespace(image_embeds=pictures.flatten(1))


class ToyTinyPipeline(ToyPipeline):
    """Makes pictures of four pixels' height."""

    def output(self, pictures: Tensor) -> Any:
        return SimpleNamespace(images=_channels_last(pictures)[:, :4])


def _channels_last(pictures: Tensor) -> np.ndarray:
    return np.moveaxis(pictures.numpy(), 1, -1)
