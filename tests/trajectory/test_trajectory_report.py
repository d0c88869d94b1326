"""What a report says of a mask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion import ErrorControlled, Report

masks = st.integers(1, 20).flatmap(
    lambda steps: st.lists(
        st.lists(st.booleans(), min_size=steps - 1, max_size=steps - 1).map(lambda r: [True, *r]),
        min_size=1,
        max_size=4,
    )
)


def report(mask: list[list[bool]], notes: tuple[str, ...] = ()) -> Report:
    return Report(ErrorControlled(), mask, 1.5, list(notes))


@given(masks)
def test_figures_are_those_of_the_mask(mask: list[list[bool]]) -> None:
    r = report(mask)
    assert r.steps == len(mask[0])
    assert r.nfe == [row.count(True) for row in mask]
    assert r.nfe_reduction == pytest.approx(r.steps / (sum(r.nfe) / len(r.nfe)))
    assert 1.0 <= r.nfe_reduction <= r.steps


@given(masks)
def test_text_is_one_line_that_names_figures_policy_and_notes(mask: list[list[bool]]) -> None:
    r = report(mask, ("the batch is decided as a whole: for a reason", "another"))
    text = str(r)
    assert "\n" not in text
    assert f"{r.steps} steps" in text
    assert ", ".join(map(str, r.nfe)) in text
    assert f"{r.nfe_reduction:.2f}x" in text
    assert "1.50 s" in text
    assert "ErrorControlled(tolerance=" in text
    assert all(note in text for note in r.notes)


def test_a_run_without_a_loop_is_not_an_error() -> None:
    r = report([])
    assert (r.steps, r.nfe, r.nfe_reduction) == (0, [], 1.0)
    assert "no denoising loop" in str(r)


@given(masks)
def test_plot_shows_one_row_per_sample_and_one_column_per_step(mask: list[list[bool]]) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    try:
        assert report(mask).plot(axes) is axes
        (drawn,) = axes.get_images()
        assert drawn.get_array().tolist() == [list(map(float, row)) for row in mask]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "sample")
    finally:
        pyplot.close(figure)


def test_plot_makes_its_own_figure() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = set(pyplot.get_fignums())
    axes = report([[True, False, True]]).plot()
    assert set(pyplot.get_fignums()) - before == {axes.figure.number}
    pyplot.close(axes.figure)
