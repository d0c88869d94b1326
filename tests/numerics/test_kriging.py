"""Weights from a kernel: what they reproduce, and what they make of a known process."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion.numerics.kriging import kriging_weights

STEPS = 12


def kernel_of_paths(seed: int, draws: int = 40) -> Tensor:
    """Of random walks: of full rank, and no output like another."""
    noise = torch.randn(draws, STEPS, dtype=torch.float64, generator=torch.manual_seed(seed))
    walks = noise.cumsum(dim=1)
    return walks.T @ walks / draws


def nodes_and_seed() -> st.SearchStrategy[tuple[list[int], int]]:
    steps = st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=5, unique=True)
    return st.tuples(steps, st.integers(0, 99))


@given(nodes_and_seed())
def test_a_node_is_reproduced_as_the_nugget_goes_to_zero(drawn: tuple[list[int], int]) -> None:
    nodes, seed = drawn
    kernel = kernel_of_paths(seed)
    one = torch.eye(len(nodes), dtype=torch.float64)
    distances = [
        float((kriging_weights(kernel, nodes, nodes, nugget) - one).abs().max())
        for nugget in (1e-2, 1e-5, 1e-9)
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-5


@given(nodes_and_seed(), st.integers(0, STEPS - 1))
def test_no_other_weights_have_a_smaller_error(drawn: tuple[list[int], int], at: int) -> None:
    nodes, seed = drawn
    kernel = kernel_of_paths(seed)
    found = kriging_weights(kernel, nodes, [at], 0.0)[:, 0]

    def square(weights: Tensor) -> float:
        error = torch.zeros(STEPS, dtype=torch.float64)
        error[nodes] = -weights
        error[at] += 1
        return float(error @ kernel @ error)

    for k in range(len(nodes)):
        for move in (-0.01, 0.01):
            other = found.clone()
            other[k] += move
            assert square(other) > square(found)


@given(st.integers(1, STEPS - 1), st.integers(0, STEPS - 1), st.floats(0.1, 10))
def test_a_process_of_lines_is_forecast_exactly(second: int, at: int, slope: float) -> None:
    """Lines with a random height and slope: two outputs say all about one."""
    coordinates = torch.linspace(-1, 2, STEPS, dtype=torch.float64)
    kernel = 1 + slope * coordinates[:, None] * coordinates
    weights = kriging_weights(kernel, [0, second], [at], 1e-12)[:, 0]
    for line in (torch.ones(STEPS, dtype=torch.float64), coordinates):
        forecast = weights @ line[[0, second]]
        torch.testing.assert_close(forecast, line[at], rtol=1e-4, atol=1e-4)


def test_a_large_nugget_makes_small_weights() -> None:
    kernel = kernel_of_paths(0)
    sizes = [float(kriging_weights(kernel, [3, 2], [4], n).abs().sum()) for n in (0.01, 1, 100)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("silent", [[2], [2, 3], list(range(STEPS))], ids=str)
def test_outputs_that_are_zero_get_no_weight(silent: list[int]) -> None:
    kernel = kernel_of_paths(0)
    kernel[silent], kernel[:, silent] = 0, 0
    weights = kriging_weights(kernel, [3, 2, 1], [4], 1e-4)[:, 0]
    assert weights.isfinite().all()
    assert weights[1] == 0


@given(st.permutations([1, 4, 6, 7]))
def test_the_order_of_the_nodes_does_not_matter(nodes: list[int]) -> None:
    kernel = kernel_of_paths(0)
    expected = kriging_weights(kernel, sorted(nodes), [9], 1e-4)[:, 0]
    found = kriging_weights(kernel, nodes, [9], 1e-4)[:, 0]
    order = [nodes.index(node) for node in sorted(nodes)]
    torch.testing.assert_close(found[order], expected)
