"""Samplers after k-diffusion's manner, and a denoiser for them whose every value is known."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Sampler = Callable[[Any, Tensor, Tensor], Tensor]


class Mixture:
    """The exact denoiser of two Gaussians in D dimensions, given `x = data + sigma * noise`."""

    def __init__(self, dimensions: int = 16) -> None:
        at = torch.arange(dimensions, dtype=torch.float64)
        self._means = torch.stack([torch.cos(3 * at), torch.sin(at)])
        self._variance = 0.1 * torch.linspace(0.2, 1.5, dimensions, dtype=torch.float64).square()
        self.calls = 0
        self.rows: list[int] = []

    def __call__(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        self.calls += 1
        self.rows.append(len(x))
        noise = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1).square()
        spread = self._variance + noise
        offsets = [x.double() - mean for mean in self._means]
        weights = torch.stack(
            [-(offset.square() / (2 * spread)).sum(1, keepdim=True) for offset in offsets]
        ).softmax(0)
        means = [
            mean + self._variance / spread * o for mean, o in zip(self._means, offsets, strict=True)
        ]
        return (weights * torch.stack(means)).sum(0).to(x.dtype)


def sigmas(steps: int, first: float = 15.0, last: float = 0.03) -> Tensor:
    """Karras et al.'s spacing (arXiv 2206.00364, eq. 5), and zero."""
    ramp = torch.linspace(first ** (1 / 7), last ** (1 / 7), steps)
    return torch.cat([ramp**7, torch.zeros(1)])


def start(samples: int = 4, dimensions: int = 16, sigma: float = 15.0) -> Tensor:
    noise = torch.Generator().manual_seed(7)
    return sigma * torch.randn(samples, dimensions, generator=noise)


def euler(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    for sigma, following in itertools.pairwise(levels):
        x = x + (x - model(x, sigma * x.new_ones(len(x)))) / sigma * (following - sigma)
    return x


def heun(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    for sigma, following in itertools.pairwise(levels):
        slope = (x - model(x, sigma)) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0:
            slope = (slope + (ahead - model(ahead, following)) / following) / 2
        x = x + slope * (following - sigma)
    return x


def adams(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """Two steps, Adams and Bashforth."""
    before = None
    for sigma, following in itertools.pairwise(levels):
        slope = (x - model(x, sigma)) / sigma
        x = x + (slope if before is None else 1.5 * slope - 0.5 * before) * (following - sigma)
        before = slope
    return x


def corrected_adams(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """Predicts by the last two slopes and corrects by the new one; x is changed in place."""
    slopes: list[Tensor] = []
    x, before = x.clone(), levels[0]
    for sigma, following in itertools.pairwise(levels):
        slopes.append((x - model(x, sigma)) / sigma)
        if len(slopes) > 1:
            x += 0.5 * (slopes[-1] - slopes[-2]) * (sigma - before)
        before = sigma
        x += slopes[-1] * (following - sigma)
    return x


def ancestral(model: Any, x: Tensor, levels: Tensor, seed: int = 5) -> Tensor:
    """Euler's method with fresh noise in every step."""
    noise = torch.Generator().manual_seed(seed)
    for sigma, following in itertools.pairwise(levels):
        up = (following**2 * (sigma**2 - following**2) / sigma**2).sqrt()
        down = (following**2 - up**2).sqrt()
        x = x + (x - model(x, sigma)) / sigma * (down - sigma)
        x = x + up * torch.randn(x.shape, generator=noise)
    return x


def consistency(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """Every step begins anew from the clean sample: that of latent consistency models."""
    noise = torch.Generator().manual_seed(5)
    for sigma, following in itertools.pairwise(levels):
        x = model(x, sigma) + following * torch.randn(x.shape, generator=noise)
    return x


SAMPLERS: dict[str, Sampler] = {
    sampler.__name__: sampler for sampler in (euler, heun, adams, corrected_adams, ancestral)
}


def k_diffusion() -> Any:
    """The module of k-diffusion's sampling functions; skips the test where it is not installed."""
    return import_without_extras("k_diffusion.sampling", "k-diffusion", "torchsde")


def import_without_extras(module: str, distribution: str, *needed: str) -> Any:
    """A module of a library, without what that library's other modules import.

    Skips the test where the library, or what the module itself needs, is not installed.
    """
    package = module.partition(".")[0]
    try:
        at = importlib.metadata.distribution(distribution).locate_file(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    for name in needed:
        pytest.importorskip(name)
    missing = [name for name in _EXTRAS if importlib.util.find_spec(name.split(".")[0]) is None]
    sys.modules.update({name: _Empty(name) for name in missing})
    try:
        if package == "k_diffusion" and package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)  # its own imports all others
            sys.modules[package].__path__ = [str(at)]
        return importlib.import_module(module)
    finally:
        for name in missing:
            del sys.modules[name]


_EXTRAS = ("torchvision", "torchvision.transforms", "torchdiffeq", "gdown")


class _Empty(types.ModuleType):
    """A module that has everything: classes that can be made, and do nothing."""

    __path__: list[str] = []  # noqa: RUF012  it is a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = sys.modules.get(f"{self.__name__}.{name}")
        return known or type(name, (), {"__init__": lambda self, *_, **__: None})
