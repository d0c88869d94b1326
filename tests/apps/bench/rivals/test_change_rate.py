"""The rule of EasyCache and LazyCache, on sequences made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adaptive_diffusion.apps.bench.rivals.change_rate import ChangeRate, is_within


def _full(value: float) -> Tensor:
    return torch.full((2, 3), value)


def _measured(threshold: float) -> ChangeRate:
    """Inputs moved by 2 and outputs from 6 to 10: the rate is 2, the output's size 10."""
    rate = ChangeRate(threshold)
    rate.learn(_full(0.0), _full(6.0))
    rate.learn(_full(2.0), _full(10.0))
    return rate


def test_skips_exactly_while_the_accumulated_change_is_below_the_threshold() -> None:
    rate = _measured(threshold=0.65)
    # every input adds 2 * (its distance from the computed one, 2) / 10
    assert rate.skips(_full(2.5))  # 0.1
    assert rate.skips(_full(3.0))  # 0.3
    assert rate.skips(_full(3.5))  # 0.6
    assert not rate.skips(_full(4.0))  # 1.0
    assert rate.skips(_full(3.0))  # 0.2: it began at 0 again


def test_a_change_as_large_as_the_threshold_is_computed() -> None:
    assert not _measured(threshold=0.25).skips(_full(3.25))
    assert _measured(threshold=0.2500001).skips(_full(3.25))


def test_signs_of_changes_do_not_cancel() -> None:
    entering = torch.tensor([[1.0, 3.0, 1.0], [3.0, 1.0, 3.0]])  # 2 on average
    assert not _measured(threshold=0.2).skips(entering)
    assert _measured(threshold=0.21).skips(entering)


def test_a_skipped_call_has_the_last_difference_again() -> None:
    torch.testing.assert_close(_measured(1.0).reuse(_full(2.5)), _full(10.5))


def test_nothing_is_skipped_before_the_rate_is_measured() -> None:
    rate = ChangeRate(threshold=1e9)
    assert not rate.is_known
    assert not rate.skips(_full(0.0))
    rate.learn(_full(0.0), _full(6.0))
    assert rate.is_known
    assert not rate.skips(_full(0.1))
    rate.learn(_full(0.1), _full(6.1))
    assert rate.skips(_full(0.2))


def test_the_rate_is_that_of_the_last_computed_calls() -> None:
    rate = _measured(threshold=0.3)
    rate.learn(_full(4.0), _full(10.0))  # the output has not moved
    assert rate.skips(_full(100.0))


def test_keeps_what_it_was_given() -> None:
    rate = ChangeRate(threshold=1.0)
    entering, output = _full(1.0), _full(5.0)
    rate.learn(entering, output)
    entering += 1
    output += 1
    torch.testing.assert_close(rate.reuse(_full(0.0)), _full(4.0))


def test_outputs_of_zeros_are_computed_once_they_move() -> None:
    rate = ChangeRate(threshold=0.2)
    rate.learn(_full(0.0), _full(1.0))
    rate.learn(_full(1.0), _full(0.0))
    assert not rate.skips(_full(1.1))
    assert rate.skips(_full(1.0))


@pytest.mark.parametrize(("measuring", "first"), [(1, 9), (2, 10)])
def test_skips_between_the_start_and_the_end_of_the_run(measuring: int, first: int) -> None:
    within = [i for i in range(50) if is_within(i, 50, measuring)]
    assert within == list(range(first, 48))
