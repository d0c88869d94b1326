"""The response matrix: measured from impulses, rewritten for other outputs, columns that agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion.errors import NotLinearError
from adaptive_diffusion.numerics.linear_response import Blocks, LinearResponse, rounding


def any_matrix(calls: int, seed: int, outputs: int = 1) -> Tensor:
    """Coefficients of the outputs that came before each sample."""
    noise = torch.Generator().manual_seed(seed)
    matrix = torch.randn(calls + 1, calls, outputs, generator=noise, dtype=torch.float64)
    return matrix * torch.ones(calls + 1, calls).tril(-1)[:, :, None]


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 2), st.integers(0, 99))
def test_impulses_give_the_matrix_back(calls: int, elements: int, outputs: int, seed: int) -> None:
    matrix, blocks = any_matrix(calls, seed, outputs).flatten(1), Blocks(elements)
    like = torch.empty(elements, dtype=torch.float64)
    turns = []
    for dealt in blocks.deal(calls * outputs):
        told = [blocks.impulse(dealt, column, 3.0, like) for column in range(calls * outputs)]
        samples = matrix @ torch.stack(told)
        turns.append((dealt, torch.stack([blocks.read(sample) for sample in samples]) / 3.0))
    measured, spread = blocks.average(turns)
    torch.testing.assert_close(measured, matrix)
    assert spread < 1e-12


def test_large_samples_are_read_in_part_and_every_element_gets_an_impulse() -> None:
    blocks, like = Blocks(50_000), torch.empty(50_000)
    (dealt,) = blocks.deal(7)
    total = sum(blocks.impulse(dealt, column, 1.0, like) for column in range(7))
    assert len(blocks.read(like)) == 8192
    assert (total[: 8192 * 6] == 1).all()
    with pytest.raises(NotLinearError, match="shape"):
        blocks.read(torch.empty(40_000))


def test_a_block_that_differs_is_seen() -> None:
    blocks = Blocks(10)
    (dealt,) = blocks.deal(2)
    responses = torch.ones(3, 10, dtype=torch.float64)
    responses[1, 4] = 1.5
    assert blocks.average([(dealt, responses)])[1] == pytest.approx(0.4)


@given(st.integers(2, 12), st.integers(1, 2), st.integers(0, 99))
def test_outputs_that_answer_their_samples_spread_errors(
    calls: int, outputs: int, seed: int
) -> None:
    """An error in one output, and all that later outputs make of it."""
    response = LinearResponse(any_matrix(calls, seed, outputs))
    answers = torch.randn(calls, generator=torch.Generator().manual_seed(seed)).double()
    answered = response.answered(answers).matrix
    for call in range(calls):
        wrong = torch.zeros(calls, outputs, dtype=torch.float64)
        for row in range(calls + 1):
            sample = (response.matrix[row] * wrong).sum()
            torch.testing.assert_close(sample, answered[row, call, 0])
            if row < calls:
                wrong[row] = answers[row] * sample
                wrong[row, 0] += row == call


def test_of_a_part_of_the_calls_the_result_is_the_same() -> None:
    matrix = any_matrix(9, 0)
    part = LinearResponse(matrix).part(slice(3, 7))
    assert torch.equal(part.matrix[-1], matrix[-1, 3:7])
    assert torch.equal(part.matrix[:-1], matrix[3:7, 3:7])


def test_equal_matrices_are_equal_responses() -> None:
    one, other = (LinearResponse(any_matrix(5, 0)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != LinearResponse(any_matrix(5, 1))
    assert one != LinearResponse(any_matrix(6, 0))
    assert one != "response"


def test_a_column_that_is_a_sum_of_others_is_found() -> None:
    matrix = torch.tensor([[0, 0, 0], [2, 0, 0], [3, 1, 0], [7, 2, 5.0]], dtype=torch.float64)
    response = LinearResponse(matrix[:, :, None])
    assert response.factors((0, 0), [(1, 0), (2, 0)], row=2) == pytest.approx([3, 0.2])
    assert response.factors((0, 0), [(1, 0)], row=2) is None
    assert response.factors((0, 0), [(1, 0)], row=3) == pytest.approx([3.5])
    assert response.factors((0, 0), [], row=3) is None
    assert response.reach((1, 0), row=1) == 2
    assert response.reach((1, 0), row=2) == 2
    assert LinearResponse(matrix[:3, :2, None]).reach((1, 0), row=2) == 1


def test_sums_that_would_make_rounding_large_are_not_taken() -> None:
    matrix = torch.tensor([[0, 0], [1, 0], [1, 1e-6], [1, 1e-6]], dtype=torch.float64)
    assert LinearResponse(matrix[:, :, None]).factors((0, 0), [(1, 0)], row=2) is None


def test_what_forgets() -> None:
    assert LinearResponse(torch.eye(4)[:, :3].roll(1, 0)[:, :, None].double()).forgets
    assert not LinearResponse(any_matrix(4, 0)).forgets


def test_the_future_is_rounding() -> None:
    matrix = any_matrix(3, 0)
    matrix[1, 2] = 1e-6
    response = LinearResponse(matrix)
    assert response.foresight == pytest.approx(1e-6)
    cleaned = response.cleaned(1e-9)
    assert cleaned.foresight == 0
    assert torch.equal(cleaned.matrix[2:, :2], matrix[2:, :2])
    assert 1e-6 < rounding(torch.float32, matrix) < 1e-2 < rounding(torch.float16, matrix) < 1
