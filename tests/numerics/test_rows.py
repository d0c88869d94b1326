"""One value per sample, applied to rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.numerics.rows import per_row, rowwise_norm, select_rows, weighted_sum

masks = st.lists(st.booleans(), min_size=1, max_size=5)
shapes = st.sampled_from([(), (3,), (2, 3), (2, 1, 3)])


def random(rows: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))


@given(masks, shapes)
def test_selection_takes_every_row_from_where_the_mask_says(
    mask: list[bool], shape: tuple[int, ...]
) -> None:
    chosen, other = random(len(mask), shape, 0), random(len(mask), shape, 1)
    selected = select_rows(mask, chosen, other)
    for row, computed in enumerate(mask):
        assert torch.equal(selected[row], (chosen if computed else other)[row])


@given(masks)
def test_selection_leaves_its_arguments_alone(mask: list[bool]) -> None:
    chosen, other = random(len(mask), (2,), 0), random(len(mask), (2,), 1)
    before = chosen.clone(), other.clone()
    select_rows(mask, chosen, other)
    assert torch.equal(chosen, before[0])
    assert torch.equal(other, before[1])


def test_a_row_that_is_not_a_number_does_not_reach_another() -> None:
    chosen, other = torch.ones(3, 2), torch.full((3, 2), torch.nan)
    selected = select_rows([True, False, True], chosen, other)
    assert selected.isfinite().all(dim=1).tolist() == [True, False, True]


@given(st.integers(1, 4), st.integers(1, 3), shapes, st.integers(0, 99))
def test_weighted_sum_is_the_sum_row_by_row(
    rows: int, terms: int, shape: tuple[int, ...], seed: int
) -> None:
    tensors = [random(rows, shape, seed + m) for m in range(terms)]
    weights = random(rows, (terms,), seed + 9).tolist()
    total = weighted_sum(weights, tensors)
    assert total.dtype == tensors[0].dtype
    for row in range(rows):
        expected = sum(w * t[row] for w, t in zip(weights[row], tensors, strict=True))
        torch.testing.assert_close(total[row], expected, rtol=1e-5, atol=1e-5)


def test_one_entry_stands_for_all_rows() -> None:
    tensors = [random(4, (3,), m) for m in range(2)]
    expected = 0.25 * tensors[0] - 2.0 * tensors[1]
    torch.testing.assert_close(weighted_sum([[0.25, -2.0]], tensors), expected)
    assert torch.equal(select_rows([True], tensors[0], tensors[1]), tensors[0])
    assert torch.equal(select_rows([False], tensors[0], tensors[1]), tensors[1])
    assert rowwise_norm(tensors[0], 1).item() == pytest.approx(tensors[0].norm().item())


@given(masks, st.integers(1, 3), shapes)
def test_an_entry_stands_for_all_rows_of_its_sample(
    mask: list[bool], each: int, shape: tuple[int, ...]
) -> None:
    chosen, other = (random(each * len(mask), shape, seed) for seed in (0, 1))
    every_row = [computed for computed in mask for _ in range(each)]
    assert torch.equal(select_rows(mask, chosen, other), select_rows(every_row, chosen, other))
    weights = random(len(mask), (2,), 9).tolist()
    every_weight = [row for row in weights for _ in range(each)]
    terms = [chosen, other]
    assert torch.equal(weighted_sum(weights, terms), weighted_sum(every_weight, terms))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float(dtype: torch.dtype) -> None:
    """Both intermediate results would overflow or cancel in half precision."""
    big = torch.full((2, 4096), 200.0, dtype=dtype)
    assert rowwise_norm(big, 2).tolist() == pytest.approx([200.0 * 64] * 2)
    one = torch.ones(2, 3, dtype=dtype)
    total = weighted_sum([[40000.0, 40000.0, -79999.0]] * 2, [one, one, one])
    assert total.dtype == dtype
    assert total.tolist() == [[1.0] * 3] * 2


@given(st.integers(1, 4), shapes, st.integers(0, 99))
def test_norm_is_every_rows_own(rows: int, shape: tuple[int, ...], seed: int) -> None:
    tensor = random(rows, shape, seed)
    norms = rowwise_norm(tensor, rows)
    assert norms.shape == (rows,)
    for row in range(rows):
        assert norms[row].item() == pytest.approx(tensor[row].norm().item(), rel=1e-5)


@given(masks, shapes)
def test_per_row_broadcasts_over_the_rows_only(mask: list[bool], shape: tuple[int, ...]) -> None:
    column = per_row(mask, random(len(mask), shape, 0))
    assert column.shape == (len(mask), *(1,) * len(shape))
    assert column.flatten().tolist() == mask
