"""Whether outputs keep to their trend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.trajectory.trend import Trend

shares = st.floats(-3, 3)


def rows(*values: float) -> torch.Tensor:
    """One sample per value, each a multiple of the same vector."""
    return torch.tensor(values)[:, None] * torch.tensor([1.0, -2.0, 0.5])


@given(st.lists(shares, min_size=1, max_size=4))
def test_a_line_is_followed_if_the_last_output_moved_along_it(moved: list[float]) -> None:
    trend = Trend(len(moved))
    change = rows(*[1.0] * len(moved))
    trend.see([True] * len(moved), rows(*moved), change)
    expected = rows(*[float(rows(each)[0, 0] > 0) for each in moved])
    assert torch.equal(trend.move(torch.zeros_like(change), change), expected)


def test_what_happens_across_the_line_does_not_count() -> None:
    trend, latest, change = Trend(1), torch.zeros(1, 2), torch.tensor([[4.0, 4.0]])
    trend.see([True], torch.tensor([[0.5, 7.0]]), torch.tensor([[1.0, 0.0]]))
    assert torch.equal(trend.move(latest, change), change)
    trend.see([True], torch.tensor([[-0.5, 7.0]]), torch.tensor([[1.0, 0.0]]))
    assert torch.equal(trend.move(latest, change), latest)


def test_before_anything_is_seen_lines_are_trusted() -> None:
    trend = Trend(2)
    one, other = rows(1, 2), rows(3, 4)
    assert torch.equal(trend.move(one, other), one + other)
    assert trend.choose(one, other) is one


@pytest.mark.parametrize("moved", [2.0, -2.0])
def test_a_line_without_a_slope_says_nothing(moved: float) -> None:
    trend = Trend(1)
    trend.see([True], rows(moved), rows(1))
    before = trend.move(rows(1), rows(1))
    trend.see([True], rows(-moved), rows(0))
    assert torch.equal(trend.move(rows(1), rows(1)), before)


def test_an_output_that_stands_still_does_not_keep_to_its_trend() -> None:
    trend = Trend(1)
    trend.see([True], rows(0), rows(1))
    assert torch.equal(trend.move(rows(1), rows(1)), rows(1))


def test_only_the_samples_that_were_computed_learn() -> None:
    trend = Trend(2)
    trend.see([True, False], rows(-1, -1), rows(1, 1))
    assert torch.equal(trend.move(rows(0, 0), rows(1, 1)), rows(0, 1))


@pytest.mark.parametrize("moved", [-1.0, 0.0, 1e-3, 2.0])
def test_samples_that_go_back_on_the_trend_get_the_rough_one(moved: float) -> None:
    trend = Trend(1)
    trend.see([True], rows(moved), rows(1))
    smooth, rough = rows(8), rows(9)
    assert torch.equal(trend.choose(smooth, rough), smooth if moved > 0 else rough)


def test_a_batch_decided_as_a_whole_has_one_trend() -> None:
    trend = Trend(1)
    trend.see([True], rows(1.0, -0.5), rows(1, 1))
    assert torch.equal(trend.move(rows(0, 0), rows(1, 1)), rows(1, 1))
    trend.see([True], rows(0.5, -1.0), rows(1, 1))
    assert torch.equal(trend.move(rows(0, 0), rows(1, 1)), rows(0, 0))


def test_a_sample_of_several_rows_has_one_trend() -> None:
    trend = Trend(2)
    trend.see([True, True], rows(0.5, -1, -0.5, 1), rows(1, 1, 1, 1))
    moved = trend.move(rows(0, 0, 0, 0), rows(1, 1, 1, 1))
    assert torch.equal(moved, rows(0, 0, 1, 1))


def test_half_precision_stays_half() -> None:
    trend = Trend(1)
    for _ in range(2):
        assert trend.move(rows(0).half(), rows(1)).dtype == torch.float16
        trend.see([True], rows(0.5), rows(1))
