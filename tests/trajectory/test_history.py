"""The values computed last, against a history that keeps everything of every sample."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion.numerics.interpolation import Polynomials
from adaptive_diffusion.trajectory.history import History, Weigh

LENGTHS = (1, 2, 4)


@st.composite
def runs(draw: st.DrawFn) -> list[list[bool]]:
    """For each step, which samples are computed; all are at the first, some at every one."""
    samples = draw(st.integers(1, 3))
    masks = st.lists(st.booleans(), min_size=samples, max_size=samples).filter(any)
    return [[True] * samples, *draw(st.lists(masks, max_size=7))]


def value_at(step: int, samples: int, rows: int = 1) -> Tensor:
    """Of any step; `rows` for each sample."""
    return torch.randn(samples * rows, 2, 3, generator=torch.manual_seed(step))


def weigh_at(at: int) -> Weigh:
    """Weights that depend on all steps that are known."""
    return lambda steps: [random.Random(f"{at} {steps} {step}").uniform(-2, 2) for step in steps]


def remembered(
    masks: list[list[bool]], length: int, rows: int = 1
) -> tuple[History, list[list[int]]]:
    """A history, and for each sample the steps that it knows, the latest first."""
    samples = len(masks[0])
    history, steps = History(samples, length), [[] for _ in range(samples)]
    for step, mask in enumerate(masks):
        unknown = torch.tensor([0.0 if known else torch.nan for known in mask])
        value = value_at(step, samples, rows) + unknown.repeat_interleave(rows)[:, None, None]
        history.remember(mask, value, step)
        for own, known in zip(steps, mask, strict=True):
            own[:] = [step, *own][:length] if known else own
    return history, steps


@given(runs(), st.sampled_from(LENGTHS))
def test_latest_is_every_samples_own(masks: list[list[bool]], length: int) -> None:
    history, steps = remembered(masks, length)
    assert history.latest is not None
    assert history.known == [True] * len(masks[0])
    for b, own in enumerate(steps):
        assert torch.equal(history.latest[b], value_at(own[0], len(steps))[b])


@given(runs(), st.sampled_from(LENGTHS), st.integers(1, 2))
def test_changes_lead_from_the_latest_value_to_the_weighted_sum(
    masks: list[list[bool]], length: int, rows: int
) -> None:
    """Of each sample's own values, computed at its own steps."""
    history, steps = remembered(masks, length, rows)
    change = history.change(weigh_at(9))
    assert change is not None
    assert history.latest is not None
    found = history.latest + change
    for b, own in enumerate(steps):
        weights = weigh_at(9)(own)
        values = [value_at(step, len(steps), rows)[b * rows : (b + 1) * rows] for step in own]
        expected = sum(w * value for w, value in zip(weights, values, strict=True))
        torch.testing.assert_close(found[b * rows : (b + 1) * rows], expected, rtol=1e-4, atol=1e-5)


@given(runs(), st.sampled_from(LENGTHS), st.integers(1, 2))
def test_between_is_the_weighted_sum_with_a_new_value(
    masks: list[list[bool]], length: int, rows: int
) -> None:
    history, steps = remembered(masks, length, rows)
    now, samples = len(masks), len(steps)
    found = history.between(value_at(now, samples, rows), now, weigh_at(9))
    for b, own in enumerate(steps):
        weights = weigh_at(9)([now, *own])
        values = [value_at(s, samples, rows)[b * rows : (b + 1) * rows] for s in (now, *own)]
        expected = sum(w * value for w, value in zip(weights, values, strict=True))
        torch.testing.assert_close(found[b * rows : (b + 1) * rows], expected, rtol=1e-4, atol=1e-5)


@given(runs())
def test_values_are_taken_as_they_are_and_not_written_to(masks: list[list[bool]]) -> None:
    history = History(len(masks[0]), 4)
    values = [torch.randn(len(masks[0]), 2) for _ in masks]
    copies = [value.clone() for value in values]
    for step, (mask, value) in enumerate(zip(masks, values, strict=True)):
        history.remember(mask, value, step)
        history.change(weigh_at(step + 1))
        history.between(value, step + 1, weigh_at(step))
    assert all(map(torch.equal, values, copies))


def test_who_was_never_computed_is_not_known() -> None:
    history = History(2, 4)
    assert history.known == [False, False]
    history.remember([True, False], value_at(0, 2), 0)
    assert history.known == [True, False]
    history.remember([True, True], value_at(1, 2), 1)
    assert history.change(lambda steps: [2.0, -1.0][: len(steps)]) is not None


def test_a_line_through_one_value_leads_nowhere() -> None:
    lines = Polynomials([0.0, 1.0, 2.0])
    history = History(2, 2)
    history.remember([True, True], value_at(0, 2), 0)
    assert history.change(lambda steps: lines.weights(steps, 2)) is None
    history.remember([True, False], value_at(1, 2), 1)
    change = history.change(lambda steps: lines.weights(steps, 2))
    assert change is not None
    assert change[0].any()
    assert not change[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_and_its_changes_are_exact(dtype: torch.dtype) -> None:
    history = History(1, 2)
    for step in range(2):
        history.remember([True], torch.full((1, 2), float(step), dtype=dtype), step)
    change = history.change(lambda steps: [2.0, -1.0])
    assert change is not None
    assert change.dtype == torch.float32
    assert torch.equal(change, torch.ones(1, 2))
    assert history.latest is not None
    assert history.latest.dtype == dtype
    between = history.between(history.latest, 2, lambda steps: [0.5, 0.5, 0.0])
    assert between.dtype == dtype
    assert torch.equal(between, torch.ones(1, 2, dtype=dtype))
