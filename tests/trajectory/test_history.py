"""The values computed last, against a history that keeps everything of every sample."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion.trajectory.history import History


@st.composite
def runs(draw: st.DrawFn) -> list[list[bool]]:
    """For each step, which samples are computed; all are at the first, some at every one."""
    samples = draw(st.integers(1, 3))
    masks = st.lists(st.booleans(), min_size=samples, max_size=samples).filter(any)
    return [[True] * samples, *draw(st.lists(masks, max_size=6))]


def remembered(masks: list[list[bool]], curve: Tensor) -> tuple[History, list[list[int]]]:
    """A history of values on `curve` (powers of the step x samples), and who was computed when."""
    samples = len(masks[0])
    history, steps = History(samples), [[] for _ in range(samples)]
    for step, mask in enumerate(masks):
        value = curve_at(curve, step)
        unknown = torch.tensor([0.0 if known else torch.nan for known in mask])
        history.remember(mask, value + unknown[:, None], float(step))
        for own, known in zip(steps, mask, strict=True):
            if known:
                own.append(step)
    return history, steps


def curve_at(curve: Tensor, step: float) -> Tensor:
    return sum(c * step**k for k, c in enumerate(curve))  # type: ignore[return-value]


def random_curve(powers: int, samples: int) -> Tensor:
    return torch.randn(powers, samples, 2, generator=torch.Generator().manual_seed(0))


@given(runs())
def test_latest_is_every_samples_own(masks: list[list[bool]]) -> None:
    curve = random_curve(4, len(masks[0]))
    history, steps = remembered(masks, curve)
    for b, own in enumerate(steps):
        assert torch.equal(history.latest[b], curve_at(curve, own[-1])[b])


@given(runs(), st.floats(-2, 12))
def test_lines_are_continued_exactly(masks: list[list[bool]], at: float) -> None:
    curve = random_curve(2, len(masks[0]))
    history, steps = remembered(masks, curve)
    change = history.change(at)
    line = history.latest if change is None else history.latest + change
    for b, own in enumerate(steps):
        # who has been computed once is reused
        expected = curve_at(curve, at if len(own) > 1 else own[-1])[b]
        torch.testing.assert_close(line[b], expected, rtol=1e-4, atol=1e-4)


@given(runs(), st.floats(0, 8))
def test_parabolas_are_met_exactly(masks: list[list[bool]], at: float) -> None:
    """With two values in memory and a new one; one lower power for each that is missing."""
    curve = random_curve(3, len(masks[0]))
    history, steps = remembered(masks, curve)
    now = float(len(masks))
    for b, own in enumerate(steps):
        own_curve = curve[: len(own[-2:]) + 1]
        history, _ = remembered(masks, own_curve)
        value = history.parabola(curve_at(own_curve, now), now, at)
        torch.testing.assert_close(value[b], curve_at(own_curve, at)[b], rtol=1e-3, atol=1e-3)


@given(runs())
def test_values_are_taken_as_they_are_and_not_written_to(masks: list[list[bool]]) -> None:
    history = History(len(masks[0]))
    values = [torch.randn(len(masks[0]), 2) for _ in masks]
    copies = [value.clone() for value in values]
    for step, (mask, value) in enumerate(zip(masks, values, strict=True)):
        history.remember(mask, value, float(step))
        history.change(step + 1.0)
        history.parabola(value, step + 1.0, step + 0.5)
    assert all(map(torch.equal, values, copies))


def test_half_precision_stays_half_and_its_changes_are_exact() -> None:
    history = History(1)
    for step in range(2):
        history.remember([True], torch.full((1, 2), float(step), dtype=torch.float16), step)
    change = history.change(2.0)
    assert change is not None
    assert change.dtype == torch.float32
    assert history.parabola(history.latest, 2.0, 1.5).dtype == torch.float16
