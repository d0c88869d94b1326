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
    latest = rows(*[1.0] * len(measured))
    mask = [True] * len(measured)
    agreement.measure(mask, latest + rows(*measured), latest, latest + rows(*[1.0] * len(mask)))
    damped = agreement.damp(rows(*[0.0] * len(mask)), rows(*[1.0] * len(mask)))
    torch.testing.assert_close(damped, rows(*[min(max(each, 0.0), 1.0) for each in measured]))


def test_what_happens_across_the_line_does_not_count() -> None:
    agreement, zero = Agreement(1), torch.zeros(1, 2)
    agreement.measure([True], torch.tensor([[0.5, 7.0]]), zero, torch.tensor([[1.0, 0.0]]))
    damped = agreement.damp(zero, torch.tensor([[4.0, 4.0]]))
    torch.testing.assert_close(damped, torch.tensor([[2.0, 2.0]]))


def test_before_anything_is_measured_lines_are_trusted() -> None:
    agreement = Agreement(2)
    line, other = rows(1, 2), rows(3, 4)
    assert agreement.damp(other, line) is line
    assert agreement.choose(line, other) is line


def test_a_line_without_a_slope_says_nothing() -> None:
    agreement, latest = Agreement(1), rows(1)
    agreement.measure([True], rows(5), latest, latest)
    torch.testing.assert_close(agreement.damp(latest, rows(2)), rows(2))
    agreement.measure([True], rows(1.5), latest, rows(2))
    agreement.measure([True], rows(5), latest, latest)
    torch.testing.assert_close(agreement.damp(latest, rows(2)), rows(1.5))


def test_only_the_samples_that_were_computed_learn() -> None:
    agreement = Agreement(2)
    agreement.measure([True, False], rows(0.5, 0.5), rows(0, 0), rows(1, 1))
    torch.testing.assert_close(agreement.damp(rows(0, 0), rows(1, 1)), rows(0.5, 1))


@pytest.mark.parametrize("share", [-1.0, 0.0, 1e-3, 2.0])
def test_who_goes_back_on_the_trend_gets_the_rough_one(share: float) -> None:
    agreement = Agreement(1)
    agreement.measure([True], rows(share), rows(0), rows(1))
    smooth, rough = rows(8), rows(9)
    assert torch.equal(agreement.choose(smooth, rough), smooth if share > 0 else rough)


def test_a_batch_decided_as_a_whole_has_one_share() -> None:
    agreement = Agreement(1)
    agreement.measure([True], rows(1.0, 0.0), rows(0, 0), rows(1, 1))
    torch.testing.assert_close(agreement.damp(rows(0, 0), rows(1, 1)), rows(0.5, 0.5))


def test_a_sample_of_several_rows_has_one_share() -> None:
    agreement = Agreement(2)
    agreement.measure([True, True], rows(1, 0, 1, 1), rows(0, 0, 0, 0), rows(1, 1, 1, 1))
    damped = agreement.damp(rows(0, 0, 0, 0), rows(1, 1, 1, 1))
    torch.testing.assert_close(damped, rows(0.5, 0.5, 1, 1))


def test_half_precision_stays_half() -> None:
    agreement, zero = Agreement(1), rows(0).half()
    agreement.measure([True], rows(0.5).half(), zero, rows(1).half())
    assert agreement.damp(zero, rows(1).half()).dtype == torch.float16
