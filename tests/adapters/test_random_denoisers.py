"""Loops of people's own, at random, keep what is promised of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from random_pipelines import FEATURES, Recipe, Told, recipes
from random_pipelines.limits import FAULTS, Fault
from random_pipelines.own_loop import LOOP_FEATURES, OwnLoop
from random_pipelines.promises import PLANS, Prescribed, plans_of

from adaptive_diffusion import ErrorControlled

_SEEDS = (3, 6, 4, 5)
_STEPS = 12
_COPIED = Recipe.of(renewed="copied in place", time="per row", change="new tensor")
_ALL_SKIPPED = plans_of("c...........,c...........")
_ROUNDING = {"float32": 1e-3, "bfloat16": 0.1, "float64": 1e-3, "mixed": 1e-3}

Plans = tuple[tuple[bool, ...], ...]

features = [(name, value) for name in LOOP_FEATURES for value in FEATURES[name][1:]]
plans = st.tuples(*[st.lists(st.booleans(), min_size=_STEPS, max_size=_STEPS).map(tuple)] * 2)

_LOOP_FAULTS = tuple(fault for fault in FAULTS if set(fault.odd) <= set(LOOP_FEATURES))


def is_faulty(recipe: Recipe) -> bool:
    return any(fault.is_in(recipe) for fault in _LOOP_FAULTS)


def check(
    recipe: Recipe, case_plans: Plans, has_step: bool, ways: tuple[bool, ...] = (False, True)
) -> None:
    """Holds the loop to what is promised, without lines and with them."""
    seeds = _SEEDS[: recipe.samples]
    loop = OwnLoop(recipe, has_step)
    plain = loop.run(seeds)
    assert loop.run(seeds, ErrorControlled(tolerance=0)).equal(plain), (
        "not identical at tolerance 0"
    )
    for lines in ways:
        if lines and recipe.dtype == "bfloat16":
            continue  # the rounding of two outputs grows along a line
        result = loop.run(seeds, Prescribed(case_plans, extrapolates=lines, backfill=False))
        assert result.isfinite().all()
        mask = mask_of(loop, len(seeds))
        expected = loop.run(seeds, told=Told(mask, lines))
        difference = float((result.double() - expected.double()).norm() / expected.double().norm())
        assert difference <= _ROUNDING[recipe.dtype], f"{difference:.1e} off, with lines: {lines}"


def mask_of(loop: OwnLoop, samples: int) -> list[list[bool]]:
    """One row per sample; what the report says is what was computed, and nothing new is skipped."""
    assert loop.report is not None
    mask, notes = loop.report.mask, loop.report.notes
    if len(mask) != samples:
        assert any("whole" in note for note in notes)
        mask = mask * samples
    assert not all(map(all, mask)) or notes, "nothing was skipped, and no note says why"
    for at, step in enumerate(loop.log.steps):
        if loop.recipe.form not in ("traced", "scripted"):
            assert step.computed == 2 * sum(row[at] for row in mask), f"step {at} was computed"
    for row, new in zip(mask, loop.log.news(samples), strict=True):
        stale = [at for at, asks in enumerate(new) if asks and not row[at]]
        assert not stale, f"steps {stale} are skipped, though they ask something new"
    return mask


def skips_some(case_plans: Plans, recipe: Recipe) -> bool:
    """Whether every sample has something to skip, wherever anything changes."""
    middle = int(recipe.steps) // 2
    used = case_plans[: recipe.samples]
    return all(
        not all(plan[at % _STEPS] or at in (0, middle) for at in range(int(recipe.steps)))
        for plan in used
    )


@pytest.mark.parametrize("fault", _LOOP_FAULTS, ids=lambda fault: repr(fault.recipe))
def test_open_faults_are_still_there(fault: Fault) -> None:
    """Whoever mends one strikes it off the list."""
    with pytest.raises((AssertionError, IndexError, RuntimeError, TypeError)):
        check(fault.recipe, fault.plans, has_step=True)


@pytest.mark.slow
@pytest.mark.parametrize("has_step", [False, True], ids=["step unknown", "step known"])
@pytest.mark.parametrize("batch", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value in features if name != "batch"]
)
def test_one_odd_feature(name: str, value: str, batch: str, has_step: bool) -> None:
    odd: dict[str, Any] = {name: value, "batch": batch}
    recipe = Recipe.of(**odd)
    if not is_faulty(recipe):
        check(recipe, PLANS, has_step)


@given(recipe=recipes(LOOP_FEATURES), case_plans=plans, has_step=st.booleans())
@example(recipe=_COPIED, case_plans=_ALL_SKIPPED, has_step=False)
@example(recipe=Recipe.of(condition="rows", batch="3"), case_plans=PLANS, has_step=False)
@example(recipe=Recipe.of(condition="numpy", change="new tensor"), case_plans=PLANS, has_step=False)
@settings(max_examples=100)
def test_odd_features_together(recipe: Recipe, case_plans: Plans, has_step: bool) -> None:
    assume(skips_some(case_plans, recipe) and not is_faulty(recipe))
    check(recipe, case_plans, has_step)


@pytest.mark.slow
@given(recipe=recipes(LOOP_FEATURES), case_plans=plans, has_step=st.booleans())
@settings(max_examples=3000, suppress_health_check=list(HealthCheck))
def test_many_odd_features_together(recipe: Recipe, case_plans: Plans, has_step: bool) -> None:
    assume(skips_some(case_plans, recipe) and not is_faulty(recipe))
    check(recipe, case_plans, has_step)
