"""How close a picture, clip or sound is to the full run's.

PSNR and SSIM need nothing. LPIPS and the features for FID come from networks, through torchmetrics
(the extra `metrics`); without it, or without its weights, they are None and a note says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_diffusion.apps.closeness import IDENTICAL_DB, closeness, frames
from adaptive_diffusion.apps.media import Medium

__all__ = ["Judge", "frechet_distance"]


class Judge:
    """Compares pictures; a network that can't be had is tried once."""

    def __init__(self, device: torch.device, *, features: bool) -> None:
        self.notes: list[str] = []
        self._device = device
        self._lpips = self._try("LPIPS", _load_lpips)
        self._inception = self._try("FID", _load_inception) if features else None

    def closeness(self, made: Medium, reference: Medium) -> dict[str, float | None]:
        """PSNR, SSIM and LPIPS: the means over the frames, of a sound over its spectrograms.

        Raises `ValueError` if it is not a number somewhere: nothing can be compared then.
        """
        decibels, similarity = closeness(made, reference)
        if math.isnan(decibels):
            raise ValueError(f"the {made.kind} has values that are no numbers")
        return {
            "psnr_db": min(decibels, IDENTICAL_DB),
            "ssim": None if math.isnan(similarity) else similarity,
            "lpips": self._distance(frames(made), frames(reference)),
        }

    def features(self, made: Medium) -> np.ndarray | None:
        """One row of Inception's features per frame; None without the network."""
        if self._inception is None:
            return None
        bytes_ = (_colour(frames(made)).clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.inference_mode():
            return self._inception(bytes_.to(self._device)).float().cpu().numpy()

    def _distance(self, images: Tensor, references: Tensor) -> float | None:
        if self._lpips is None:
            return None
        pair = [_colour(each).clamp(0, 1).to(self._device) for each in (images, references)]
        try:
            with torch.inference_mode():
                distance = self._lpips(*pair).item()
            self._lpips.reset()  # it would keep every value that it has given
            return distance
        except (RuntimeError, ValueError) as error:  # pictures too small for the network
            self._give_up("LPIPS", error)
            self._lpips = None
            return None

    def _try(self, name: str, load: Callable[[], Any]) -> Any | None:
        try:
            return load().eval().to(self._device)
        except Exception as error:  # the extra, its own needs, or the weights: whatever is missing
            self._give_up(name, error)
            return None

    def _give_up(self, name: str, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        self.notes.append(f"no {name}: {reason}")


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID between two sets of features, one per row."""
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b)]
    means = np.square(a.mean(0) - b.mean(0)).sum()
    # tr √(AB) is the sum of the roots of AB's eigenvalues, which are real and not negative
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)
    traces = sum(np.trace(each) for each in covariances)
    return float(means + traces - 2 * np.sqrt(eigenvalues).sum())


def _colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _load_lpips() -> Any:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _load_inception() -> Any:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return FrechetInceptionDistance(feature=2048).inception
