"""Pipelines made at random keep what is promised of every pipeline.

What is promised stands in `random_pipelines.promises`; what may be odd in `FEATURES`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from random_pipelines import FEATURES, Recipe, make, recipes, run, single_oddities
from random_pipelines.limits import FAULTS, Fault
from random_pipelines.promises import PLANS, PROMISES, BrokenError, Case, plans_of

_STEPS = 12
_ALL_SKIPPED = plans_of("c...........,c...........")
_COPIED = Recipe.of(renewed="copied in place", change="new tensor")
_TRACED = Recipe.of(form="traced", condition_rows="per block", guidance="one batch", batch="2")

plans = st.lists(
    st.lists(st.booleans(), min_size=_STEPS, max_size=_STEPS).map(lambda plan: (True, *plan[1:])),
    min_size=2,
    max_size=2,
).map(tuple)


def check(recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...] | None = None) -> None:
    case = Case(recipe) if case_plans is None else Case(recipe, case_plans)
    for promise in PROMISES.values():
        promise(case)


def is_faulty(recipe: Recipe) -> bool:
    return any(fault.is_in(recipe) for fault in FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [each for each in single_oddities() if not is_faulty(each)], ids=repr
)
def test_one_odd_feature(recipe: Recipe) -> None:
    check(recipe)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: repr(fault.recipe))
def test_open_faults_are_still_there(fault: Fault) -> None:
    """Whoever mends one strikes it off the list."""
    with pytest.raises(BrokenError):
        check(fault.recipe, fault.plans)


@given(recipe=recipes(), case_plans=plans)
@example(recipe=_COPIED, case_plans=_ALL_SKIPPED)
@example(recipe=_COPIED.but(change="in place"), case_plans=_ALL_SKIPPED)
@example(recipe=_TRACED, case_plans=PLANS)
@example(recipe=Recipe.of(condition="rows", batch="3"), case_plans=PLANS)
@example(recipe=Recipe.of(condition="numpy", change="new tensor"), case_plans=PLANS)
@example(recipe=_TRACED.but(form="scripted"), case_plans=PLANS)
@settings(max_examples=40)
def test_odd_features_together(recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...]) -> None:
    assume(not is_faulty(recipe))
    check(recipe, case_plans)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(recipe=recipes(), case_plans=plans)
@settings(max_examples=3000, suppress_health_check=list(HealthCheck))
def test_many_odd_features_together(
    recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...]
) -> None:
    assume(not is_faulty(recipe))
    check(recipe, case_plans)


def test_every_feature_is_a_field() -> None:
    assert Recipe.of().odd == {}
    for name, values in FEATURES.items():
        assert getattr(Recipe.of(), name) == values[0]


def test_plain_runs_are_repeatable() -> None:
    """Else nothing could be held against them."""
    for recipe in single_oddities(batches=("2",)):
        seeds = list(range(recipe.samples))
        first, second = (run(make(recipe), seeds) for _ in range(2))
        assert first.error == second.error, recipe
        for one, other in zip(first.results, second.results, strict=True):
            assert one.isfinite().all(), recipe
            assert one.equal(other), recipe
