"""Pipelines made at random keep what is promised of every pipeline.

What is promised stands in `random_pipelines.promises`; what may be odd in `FEATURES`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_pipelines import FEATURES, Recipe, make, recipes, run, single_oddities
from random_pipelines.promises import PROMISES, Case

_STEPS = 12

plans = st.lists(
    st.lists(st.booleans(), min_size=_STEPS, max_size=_STEPS).map(lambda plan: (True, *plan[1:])),
    min_size=2,
    max_size=2,
).map(tuple)


def check(recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...] | None = None) -> None:
    case = Case(recipe) if case_plans is None else Case(recipe, case_plans)
    for promise in PROMISES.values():
        promise(case)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", single_oddities(), ids=repr)
def test_one_odd_feature(recipe: Recipe) -> None:
    check(recipe)


@given(recipe=recipes(), case_plans=plans)
@settings(max_examples=40)
def test_odd_features_together(recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...]) -> None:
    check(recipe, case_plans)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(recipe=recipes(), case_plans=plans)
@settings(max_examples=3000, suppress_health_check=list(HealthCheck))
def test_many_odd_features_together(
    recipe: Recipe, case_plans: tuple[tuple[bool, ...], ...]
) -> None:
    check(recipe, case_plans)


def test_every_feature_is_a_field() -> None:
    assert Recipe.of().odd == {}
    for name, values in FEATURES.items():
        assert getattr(Recipe.of(), name) == values[0]


def test_plain_runs_are_repeatable() -> None:
    """Else nothing could be held against them."""
    for recipe in single_oddities():
        seeds = list(range(recipe.samples))
        first, second = (run(make(recipe), seeds) for _ in range(2))
        assert first.error == second.error, recipe
        for one, other in zip(first.results, second.results, strict=True):
            assert one.isfinite().all(), recipe
            assert one.equal(other), recipe
