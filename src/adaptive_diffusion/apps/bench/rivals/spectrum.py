"""Spectrum: a ridge regression of computed outputs on Chebyshev polynomials forecasts the others.

Han et al., "Adaptive Spectral Feature Forecasting for Diffusion Sampling Acceleration", CVPR 2026
(https://arxiv.org/abs/2603.01623, https://github.com/hanjq17/Spectrum). The authors forecast the
features before the last layer of each model that they have written it for. stable-diffusion.cpp
forecasts what the sampler gets, for every model
(https://github.com/leejet/stable-diffusion.cpp/pull/1336). This does the same, and is written from
the mathematics.

Step i of N stands at :math:`\\tau_i = 2i/N - 1`. For the remembered steps k, whose outputs are the
rows of H, X has the rows :math:`(T_0(\\tau_k), \\dots, T_M(\\tau_k))`; a skipped step's row is
:math:`X_i`.

- **Spectral forecast**: :math:`X_i (X^\\top X + \\lambda I)^{-1} X^\\top H`.
- **Line** through the last two computed outputs, at step i.
- **Mixture**: :math:`w` times the first and :math:`1 - w` times the second.
- **Schedule**: the first 5 steps are computed, then the last step of each window. Each window is
  longer by :math:`\\alpha` than the one before. From a window of 2 steps at :math:`\\alpha = 0.75`
  steps 0 to 4, 6, 8, 11, 15, 20, 25, 31, 38 and 46 of 50 are computed. stable-diffusion.cpp also
  computes the last tenth.

Settings: the authors' are a window of 2, :math:`\\alpha = 0.75`, :math:`w = 0.5`,
:math:`\\lambda = 0.1` and :math:`M = 4` with all outputs remembered. stable-diffusion.cpp's are a
window of 2, :math:`\\alpha = 0.5`, :math:`w = 0.4`, :math:`\\lambda = 1` and :math:`M = 3` with the
last 6.

**The sweep varies the window, its growth, the end and the mixture.** What favours the method was
chosen on one or two samples of `emoji`, `motion-dit`, `scenes` and `emoji` without a prompt:

- The model's output is forecast. stable-diffusion.cpp forecasts the clean sample that it predicts.
- The last 6 outputs are remembered, and :math:`\\lambda` is 0.01.
- The last step, or the last two of 50, are computed.
- Beyond 2.5 times fewer calls there are also longer first windows that grow less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers.scheduler_step import timesteps_of
from adaptive_diffusion.apps.bench.rivals.base import Rival, Work
from adaptive_diffusion.apps.bench.rivals.meter import metered
from adaptive_diffusion.apps.bench.rivals.skipping import Rule, Skipping, Step

__all__ = ["Spectrum"]

_FIRST = 5  # steps that are always computed


class Spectrum(Rival):
    """Computes the last step of each window.

    Attributes:
        window: how many steps the first window has.
        growth: how much each window is longer than the one before.
        share: of the spectral forecast in the mixture.
        ridge: the regularization.
        degree: of the highest polynomial.
        memory: how many outputs are remembered; None for all.
        end: share of the run after which all steps are computed.
    """

    family = "Spectrum"

    def __init__(
        self,
        window: int,
        growth: float,
        *,
        share: float,
        ridge: float,
        degree: int,
        memory: int | None,
        end: float = 1.0,
    ) -> None:
        self.window = window
        self.growth = growth
        self.share = share
        self.ridge = ridge
        self.degree = degree
        self.memory = memory
        self.end = end
        until = f", until {end:.0%}" if end < 1 else ""
        self.name = (
            f"Spectrum, window {window} + {growth:g}{until}, "
            f"w {share:g}, lambda {ridge:g}, degree {degree}"
        )

    def reason_against(self, pipe: Any) -> str | None:
        return None

    @contextmanager
    def applied(self, pipe: Any, steps: int) -> Iterator[Work]:
        with metered(pipe, Skipping(lambda scheduler: _Spectrum(self, scheduler))) as work:
            yield work

    def computed(self, steps: int) -> list[bool]:
        """Which steps of a loop are computed."""
        mask: list[bool] = []
        window, in_a_row = float(self.window), 0
        for i in range(steps):
            if i < _FIRST or i >= self.end * steps:
                mask.append(True)
                continue
            closes_window = in_a_row + 1 >= math.floor(window)
            mask.append(closes_window)
            in_a_row = 0 if closes_window else in_a_row + 1
            window += self.growth if closes_window else 0.0
        return mask


class _Spectrum(Rule):
    """One generation under Spectrum."""

    def __init__(self, rival: Spectrum, scheduler: Any) -> None:
        self._rival = rival
        self._steps = len(timesteps_of(scheduler))
        self._to_come = iter(rival.computed(self._steps)[1:])
        self._remembered: list[tuple[int, Tensor]] = []

    def forecast(self, step: Step) -> Tensor:
        places, outputs = zip(*self._remembered, strict=True)
        weights = self._weights(places, step.index)
        parts = [w * output for w, output in zip(weights.tolist(), outputs, strict=True)]
        return torch.stack(parts).sum(0).to(step.output.dtype)

    def _weights(self, places: Sequence[int], target: int) -> Tensor:
        rival = self._rival
        weights = spectral_weights(places, target, self._steps, rival.degree, rival.ridge)
        weights *= rival.share
        before, last = places[-2:]
        ahead = (target - last) / (last - before)
        weights[-2] -= (1 - rival.share) * ahead
        weights[-1] += (1 - rival.share) * (1 + ahead)
        return weights

    def skips_next(self, step: Step, following: Tensor) -> bool:
        if not step.is_skipped:
            self._remembered.append((step.index, step.output.float().clone()))
            if self._rival.memory is not None:
                self._remembered = self._remembered[-self._rival.memory :]
        return not next(self._to_come, True)


def spectral_weights(
    places: Sequence[int], target: int, steps: int, degree: int, ridge: float
) -> Tensor:
    """What the spectral forecast at `target` takes of the output at each of K places.

    Returns:
        double precision, shape (K,).
    """
    design = _chebyshev(torch.tensor(list(places)), steps, degree)
    at_target = _chebyshev(torch.tensor([target]), steps, degree)
    gram = design.T @ design + ridge * torch.eye(degree + 1, dtype=torch.float64)
    return (at_target @ torch.linalg.solve(gram, design.T)).squeeze(0)


def _chebyshev(places: Tensor, steps: int, degree: int) -> Tensor:
    """T_0 to T_degree at these steps; double, (K, degree + 1)."""
    angle = torch.arccos((2 * places.double() / steps - 1).clamp(-1, 1))
    return torch.cos(angle[:, None] * torch.arange(degree + 1))
