"""What a probe finds out about samplers, and that it leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samplers import SAMPLERS, Sampler, ancestral, consistency, euler, sigmas, start
from torch import Tensor

from adaptive_diffusion.errors import NotLinearError
from adaptive_diffusion.trajectory.probe import Probe, probe
from adaptive_diffusion.trajectory.random_sources import RandomSources

LEVELS = sigmas(8)


def probed(sampler: Sampler, x: Tensor | None = None, levels: Tensor = LEVELS) -> Probe:
    begin = start() if x is None else x

    def run(stand_in: Callable[[Tensor, Any], list[Tensor]]) -> Tensor:
        return sampler(lambda sample, time, *_: stand_in(sample, time)[0], begin, levels)

    return probe(run, RandomSources())


@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 20), st.floats(1.0, 80.0))
def test_eulers_matrix_is_the_one_in_the_books(
    steps: int, samples: int, dimensions: int, first: float
) -> None:
    """With clean samples as outputs: `x' = s x + (1 - s) u`, s the ratio of the levels."""
    levels = sigmas(steps, first)
    found = probed(euler, start(samples, dimensions, first), levels)
    expected = torch.zeros(steps + 1, steps, dtype=torch.float64)
    for row in range(1, steps + 1):
        ratio = levels[row] / levels[row - 1]
        expected[row] = ratio * expected[row - 1]
        expected[row, row - 1] = 1 - ratio
    torch.testing.assert_close(found.response.matrix[:, :, 0], expected, atol=1e-5, rtol=1e-4)
    assert found.times == pytest.approx(levels[:-1].tolist())
    assert not any(found.noise)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_what_the_matrix_says(name: str) -> None:
    """Any outputs, in place of impulses."""
    response, noise = probed(SAMPLERS[name]).response, torch.Generator().manual_seed(3)
    changes = [torch.randn(4, 16, generator=noise) for _ in range(response.calls)]

    def run(outputs: list[Tensor]) -> list[Tensor]:
        seen: list[Tensor] = []

        def model(x: Tensor, *_: Any) -> Tensor:
            seen.append(x.clone())
            return outputs[len(seen) - 1]

        result = SAMPLERS[name](model, start(), LEVELS)
        return [*seen, result]

    at_rest = run([torch.zeros(4, 16)] * response.calls)
    for row, (sample, rest) in enumerate(zip(run(changes), at_rest, strict=True)):
        expected = rest + sum(
            response.coefficient(row, call) * change for call, change in enumerate(changes)
        )
        torch.testing.assert_close(sample, expected, rtol=1e-4, atol=2e-4)


def test_noise_is_noticed_from_where_it_comes_in() -> None:
    assert probed(ancestral).noise == (False, *(True,) * 7)
    assert not any(probed(SAMPLERS["heun"]).noise)


def test_noise_that_is_drawn_and_not_used_is_none() -> None:
    def draws(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        return euler(lambda *a: model(*a) + 0 * torch.randn_like(x), x, levels)

    assert not any(probed(draws).noise)


def test_what_begins_from_new_noise_forgets() -> None:
    assert probed(consistency).response.forgets
    assert not probed(ancestral).response.forgets


def clipped(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    return euler(lambda *a: model(*a).clamp(-1, 1), x, levels)


def clipped_at_the_end(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    return euler(model, x, levels).clamp(-1, 1)


def masked(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    mask = torch.linspace(0, 1, x.shape[1])
    return euler(lambda *a: mask * model(*a), x, levels)


def mixed(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    return euler(lambda *a: model(*a).roll(1, dims=1), x, levels)


def flipped(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """One row gets another's output."""
    return euler(lambda *a: model(*a).flip(0), x, levels)


def adaptive(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    sigma = levels[0]
    while sigma > 0.05:
        slope = (x - model(x, sigma)) / sigma
        step = sigma / (2 + slope.abs().max())
        x, sigma = x - slope * step, sigma - step
    return x


def endless(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    while x.abs().max() < torch.inf:
        x = 0 * model(x, levels[0])
    return x


def numpy_noise(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    noise = torch.from_numpy(_HIDDEN.standard_normal(x.shape)).float()
    return euler(lambda *a: model(*a) + noise, x, levels)


_HIDDEN = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (clipped, "proportion"),
        (clipped_at_the_end, "proportion"),
        (masked, "proportion"),
        (mixed, "proportion"),
        (flipped, "proportion"),
        (adaptive, "chooses its own steps"),
        (endless, "without an end"),
        (numpy_noise, "can't be put back"),
        (lambda model, x, levels: x, "did not call"),
        (lambda model, x, levels: euler(model, x, levels)[:1], "shape"),
        (lambda model, x, levels: [euler(model, x, levels)], "as a tensor"),
    ],
)
def test_what_is_not_linear_is_found_out(sampler: Sampler, reason: str) -> None:
    with pytest.raises(NotLinearError, match=reason):
        probed(sampler)


@pytest.mark.parametrize("source", ["torch", "generator", "numpy", "python"])
def test_the_sources_of_noise_stand_where_they_stood(source: str) -> None:
    """Whatever a sampler draws from, it draws the same after the probe as without one."""
    generator = torch.Generator().manual_seed(11)

    def draw(x: Tensor) -> Tensor:
        if source == "torch":
            return torch.randn_like(x)
        if source == "generator":
            return torch.empty_like(x).normal_(generator=generator)
        if source == "numpy":
            return torch.from_numpy(np.random.standard_normal(x.shape)).float()
        return random.gauss(0, 1) * torch.ones_like(x)

    def sampler(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        return euler(lambda *a: model(*a) + draw(x), x, levels)

    def seed() -> None:
        torch.manual_seed(1)
        generator.manual_seed(11)
        np.random.seed(1)
        random.seed(1)

    seed()
    expected = draw(start())
    seed()
    assert any(probed(sampler).noise)
    assert torch.equal(draw(start()), expected)


def test_a_start_that_the_loop_draws_is_no_noise_on_the_way() -> None:
    def draws_start(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        return euler(model, levels[0] * torch.randn_like(x), levels)

    assert not any(probed(draws_start).noise)


def test_half_precision_is_told_from_what_is_not_linear() -> None:
    half = probed(euler, start().half(), LEVELS.half())
    single = probed(euler)
    torch.testing.assert_close(half.response.matrix, single.response.matrix, atol=0.02, rtol=0.02)
    with pytest.raises(NotLinearError):
        probed(clipped, start().half(), LEVELS.half())
