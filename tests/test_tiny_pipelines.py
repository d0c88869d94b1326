"""The tiny pipelines are fit to test with: repeatable, and sensitive to all that is varied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_pipelines import TINY_PIPELINES, batch_size, run, single


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two runs are equal to the bit only while sums are split among threads in one way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=TINY_PIPELINES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipe(name: str) -> DiffusionPipeline:
    return TINY_PIPELINES[name].make()


@pytest.fixture(scope="module")
def first(name: str, pipe: DiffusionPipeline) -> torch.Tensor:
    """What a batch of one gives: the run that the others are compared with."""
    return run(pipe, TINY_PIPELINES[name].inputs(1))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative to ``b``."""
    return ((a - b).norm() / b.norm()).item()


def test_result_is_finite_and_not_saturated(first: torch.Tensor) -> None:
    assert first.shape[0] == 1
    assert first.isfinite().all()
    assert first.unique().numel() > first.numel() / 2


def test_fresh_pipelines_give_equal_results(name: str, first: torch.Tensor) -> None:
    tiny = TINY_PIPELINES[name]
    assert torch.equal(run(tiny.make(), tiny.inputs(1)), first)


def test_making_one_leaves_the_global_random_state_alone(name: str) -> None:
    state = torch.get_rng_state()
    TINY_PIPELINES[name].make()
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_is_its_samples_alone_and_each_depends_on_seed_and_prompt(
    name: str, pipe: DiffusionPipeline, first: torch.Tensor
) -> None:
    inputs = TINY_PIPELINES[name].inputs(2)
    assert batch_size(inputs) == 2
    both = run(pipe, inputs)
    alone = run(pipe, single(inputs, 1), seed=1)
    assert both.shape == (2, *first.shape[1:])
    assert difference(both[:1], first) < 1e-4
    assert difference(both[1:], alone) < 1e-4

    other_seed = run(pipe, TINY_PIPELINES[name].inputs(1), seed=1)
    assert difference(other_seed, first) > 0.1
    if name != "ddim":
        assert difference(alone, other_seed) > 0.01


def test_denoisers_depend_on_the_timestep(name: str, pipe: DiffusionPipeline) -> None:
    tiny = TINY_PIPELINES[name]
    for denoiser in (getattr(pipe, component) for component in tiny.denoisers):
        calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
        handle = denoiser.register_forward_hook(
            lambda _, args, kwargs, output, calls=calls: calls.append((args, kwargs, output)),
            with_kwargs=True,
        )
        run(pipe, tiny.inputs(1))
        handle.remove()

        args, kwargs, output = calls[0]
        if "timestep" in kwargs:
            kwargs = kwargs | {"timestep": kwargs["timestep"] * 0.5}
        else:
            args = (args[0], args[1] * 0.5, *args[2:])
        with torch.no_grad():
            later = denoiser(*args, **kwargs)
        assert difference(later[0], output[0]) > 0.01
