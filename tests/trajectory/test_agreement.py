"""The share of a line's change that came true."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.trajectory.agreement import Agreement

shares = st.floats(-3, 3)


def rows(*values: float) -> torch.Tensor:
    """One sample per value, each a multiple of the same vector."""
    return torch.tensor(values)[:, None] * torch.tensor([1.0, -2.0, 0.5])


@given(st.lists(shares, min_size=1, max_size=4))
def test_forecasts_go_as_far_as_the_last_line_held(measured: list[float]) -> None:
    agreement = Agreement(len(measured))
    change = rows(*[1.0] * len(measured))
    agreement.measure([True] * len(measured), rows(*measured), change)
    moved = agreement.move(torch.zeros_like(change), change)
    torch.testing.assert_close(moved, rows(*[min(max(each, 0.0), 1.0) for each in measured]))


def test_what_happens_across_the_line_does_not_count() -> None:
    agreement = Agreement(1)
    agreement.measure([True], torch.tensor([[0.5, 7.0]]), torch.tensor([[1.0, 0.0]]))
    moved = agreement.move(torch.zeros(1, 2), torch.tensor([[4.0, 4.0]]))
    torch.testing.assert_close(moved, torch.tensor([[2.0, 2.0]]))


def test_before_anything_is_measured_lines_are_trusted() -> None:
    agreement = Agreement(2)
    one, other = rows(1, 2), rows(3, 4)
    assert torch.equal(agreement.move(one, other), one + other)
    assert agreement.choose(one, other) is one


def test_a_line_without_a_slope_says_nothing() -> None:
    agreement = Agreement(1)
    agreement.measure([True], rows(4), rows(0))
    torch.testing.assert_close(agreement.move(rows(1), rows(1)), rows(2))
    agreement.measure([True], rows(0.5), rows(1))
    agreement.measure([True], rows(4), rows(0))
    torch.testing.assert_close(agreement.move(rows(1), rows(1)), rows(1.5))


def test_only_the_samples_that_were_computed_learn() -> None:
    agreement = Agreement(2)
    agreement.measure([True, False], rows(0.5, 0.5), rows(1, 1))
    torch.testing.assert_close(agreement.move(rows(0, 0), rows(1, 1)), rows(0.5, 1))


@pytest.mark.parametrize("share", [-1.0, 0.0, 1e-3, 2.0])
def test_who_goes_back_on_the_trend_gets_the_rough_one(share: float) -> None:
    agreement = Agreement(1)
    agreement.measure([True], rows(share), rows(1))
    smooth, rough = rows(8), rows(9)
    assert torch.equal(agreement.choose(smooth, rough), smooth if share > 0 else rough)


def test_a_batch_decided_as_a_whole_has_one_share() -> None:
    agreement = Agreement(1)
    agreement.measure([True], rows(1.0, 0.0), rows(1, 1))
    torch.testing.assert_close(agreement.move(rows(0, 0), rows(1, 1)), rows(0.5, 0.5))


def test_a_sample_of_several_rows_has_one_share() -> None:
    agreement = Agreement(2)
    agreement.measure([True, True], rows(1, 0, 1, 1), rows(1, 1, 1, 1))
    moved = agreement.move(rows(0, 0, 0, 0), rows(1, 1, 1, 1))
    torch.testing.assert_close(moved, rows(0.5, 0.5, 1, 1))


def test_half_precision_stays_half() -> None:
    agreement = Agreement(1)
    for _ in range(2):
        assert agreement.move(rows(0).half(), rows(1)).dtype == torch.float16
        agreement.measure([True], rows(0.5), rows(1))
