"""A plan made beforehand is followed to the letter."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion import FixedSchedule, NoiseSchedule, PolicyError, StepsError, Trace

masks = st.lists(st.booleans(), max_size=20).map(lambda rest: [True, *rest])


@given(masks, st.sampled_from([list, tuple]), st.sampled_from([bool, int]))
def test_decisions_are_the_mask(mask: list[bool], container: Any, kind: Any) -> None:
    policy = FixedSchedule(container(map(kind, mask)))
    trace = Trace(NoiseSchedule.uniform(len(mask)))
    for computed in mask:
        assert policy.decide(trace) is computed
        trace.mask.append(computed)
        trace.errors.append(math.nan)
        trace.changes.append(math.nan)


@given(masks, st.integers(1, 30))
def test_it_serves_loops_of_its_own_length_only(mask: list[bool], steps: int) -> None:
    """Or of one step more: some pipelines do not take their scheduler's last one."""
    policy = FixedSchedule(mask)
    policy.check_steps(len(mask))
    policy.check_steps(len(mask) + 1)
    if steps not in (len(mask), len(mask) + 1):
        with pytest.raises(StepsError, match=rf"{len(mask)} steps .* {steps}: make a mask"):
            policy.check_steps(steps)


def test_the_mask_is_copied() -> None:
    mask = [True, False, True]
    policy = FixedSchedule(mask)
    mask[1] = True
    assert list(policy.mask) == [True, False, True]


@pytest.mark.parametrize("mask", [[], (), [False], [False, True], [0, 1]], ids=str)
def test_a_mask_begins_with_true(mask: Any) -> None:
    with pytest.raises(PolicyError, match="must begin with True"):
        FixedSchedule(mask)


@pytest.mark.parametrize("mask", [None, 5, True], ids=str)
def test_a_mask_is_a_sequence(mask: Any) -> None:
    with pytest.raises(PolicyError, match="sequence of truth values"):
        FixedSchedule(mask)
