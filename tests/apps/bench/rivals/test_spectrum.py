"""Spectrum's schedule, its regression, and its forecasts in a pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.bench.rivals.spectrum import Spectrum, spectral_weights


def _authors(growth: float, **changes: Any) -> Spectrum:
    setting = {"share": 0.5, "ridge": 0.1, "degree": 4, "memory": None}
    return Spectrum(2, growth, **(setting | changes))


def _steps(mask: list[bool]) -> list[int]:
    return [i for i, computed in enumerate(mask) if computed]


def test_computes_the_published_steps() -> None:
    published = [0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 25, 31, 38, 46]
    assert _steps(_authors(0.75).computed(50)) == published
    assert len(_steps(_authors(3.0).computed(50))) == 10  # the paper's strongest acceleration


@pytest.mark.parametrize("steps", [1, 4, 20, 28, 50, 100])
@pytest.mark.parametrize("growth", [0.0, 0.25, 0.75, 3.0])
def test_windows_never_shrink(growth: float, steps: int) -> None:
    mask = _authors(growth).computed(steps)
    assert len(mask) == steps
    assert all(mask[:5])
    computed = _steps(mask)
    windows = [after - before for before, after in pairwise(computed[4:])]
    assert windows == sorted(windows)
    assert windows[:1] in ([], [2])


def test_the_first_window_has_its_length() -> None:
    mask = Spectrum(7, 0, share=0.5, ridge=0.1, degree=4, memory=None).computed(30)
    assert _steps(mask) == [0, 1, 2, 3, 4, 11, 18, 25]


def test_computes_all_steps_of_the_end() -> None:
    mask, to_the_end = _authors(0.75, end=0.9).computed(50), _authors(0.75).computed(50)
    assert mask[:45] == to_the_end[:45]
    assert all(mask[45:])


def _chebyshev(degree: int, step: float, steps: int) -> float:
    return math.cos(degree * math.acos(2 * step / steps - 1))


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("target", [9, 14, 19, 30])
def test_regression_recovers_chebyshev_polynomials(degree: int, target: int) -> None:
    places = [0, 1, 2, 3, 4, 6, 8, 11, 15]
    weights = spectral_weights(places, target, steps=50, degree=4, ridge=1e-14)
    outputs = torch.tensor([_chebyshev(degree, i, 50) for i in places], dtype=torch.float64)
    expected = _chebyshev(degree, target, 50)
    assert float(weights @ outputs) == pytest.approx(expected, abs=1e-5)


def test_ridge_draws_forecasts_to_zero() -> None:
    places = list(range(5))
    sizes = [
        float(spectral_weights(places, 8, steps=50, degree=4, ridge=ridge).norm())
        for ridge in (1e-3, 1e-1, 1e1, 1e3)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.01


def test_ridge_solves_the_regularized_least_squares() -> None:
    places, ridge = [0, 3, 5, 9], 0.5
    outputs = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = [[_chebyshev(m, i, 20) for m in range(3)] for i in places]
    design = torch.tensor(rows, dtype=torch.float64)
    stacked = torch.cat([design, math.sqrt(ridge) * torch.eye(3, dtype=torch.float64)])
    targets = torch.cat([outputs, torch.zeros(3, 1, dtype=torch.float64)])
    fit = torch.linalg.lstsq(stacked, targets).solution.squeeze(1)
    expected = sum(float(fit[m]) * _chebyshev(m, 12, 20) for m in range(3))
    weights = spectral_weights(places, 12, steps=20, degree=2, ridge=ridge)
    assert float(weights @ outputs.squeeze(1)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "polynomial"),
    [
        ({"share": 0.0}, lambda i: 1.0 - 0.3 * i),
        ({"share": 0.5, "ridge": 1e-12}, lambda i: 1.0 - 0.3 * i),
        ({"share": 1.0, "ridge": 1e-12}, lambda i: _chebyshev(4, i, 20)),
        ({"share": 1.0, "ridge": 1e-12, "memory": 5}, lambda i: _chebyshev(4, i, 20)),
    ],
    ids=["line", "mixture", "spectral", "spectral, 5 remembered"],
)
def test_forecasts_outputs_that_it_can_describe(
    tiny: Callable[[str], Any], changes: dict[str, Any], polynomial: Callable[[float], float]
) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1) | {"guidance_scale": 1.0}
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    method = _authors(0.75, **changes)
    computed: list[int] = []

    def answer(sample: torch.Tensor, t: torch.Tensor, *_: Any, **__: Any) -> Any:
        step = pipe.scheduler.timesteps.tolist().index(int(t))
        computed.append(step)
        return (torch.full_like(sample, polynomial(step)),)

    pipe.unet.forward = answer
    full = run(pipe, inputs, steps=20)
    computed.clear()
    with method.applied(pipe, 20):
        ours = run(pipe, inputs, steps=20)
    assert computed == _steps(method.computed(20))
    torch.testing.assert_close(ours, full, rtol=0, atol=2e-3)


@pytest.mark.parametrize("scheduler", [HeunDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_follows_the_calls_of_any_solver(tiny: Callable[[str], Any], scheduler: Any) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1)
    pipe.scheduler = scheduler()
    method = _authors(0.75)
    assert method.reason_against(pipe) is None
    with method.applied(pipe, 12) as work:
        assert run(pipe, inputs, steps=12).isfinite().all()
    expected = method.computed(len(pipe.scheduler.timesteps))
    assert work.per_step == [float(each) for each in expected]
