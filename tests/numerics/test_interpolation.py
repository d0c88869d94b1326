"""Polynomials through known points."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.numerics.interpolation import growth, lagrange_weights

quarters = st.integers(-40, 40).map(lambda k: k / 4)
node_lists = st.lists(quarters, min_size=1, max_size=4, unique=True)
coefficients = st.lists(st.integers(-5, 5), min_size=4, max_size=4)


def polynomial(powers: list[int], at: float) -> float:
    return sum(c * at**k for k, c in enumerate(powers))


@given(node_lists, quarters, coefficients)
def test_polynomials_below_the_number_of_nodes_are_met_exactly(
    nodes: list[float], at: float, powers: list[int]
) -> None:
    powers = powers[: len(nodes)]
    weights = lagrange_weights(nodes, at)
    value = sum(w * polynomial(powers, node) for w, node in zip(weights, nodes, strict=True))
    scale = max(1.0, *(abs(w) for w in weights)) * 5 * 10 ** len(nodes)
    assert value == pytest.approx(polynomial(powers, at), abs=1e-12 * scale)


@given(node_lists, quarters)
def test_weights_sum_to_one(nodes: list[float], at: float) -> None:
    weights = lagrange_weights(nodes, at)
    assert sum(weights) == pytest.approx(1.0, abs=1e-12 * max(map(abs, weights), default=1.0))


@given(node_lists)
def test_at_a_node_only_that_node_counts_and_nothing_has_grown(nodes: list[float]) -> None:
    for m, node in enumerate(nodes):
        expected = [float(n == m) for n in range(len(nodes))]
        assert lagrange_weights(nodes, node) == pytest.approx(expected)
        assert growth(nodes, node) == 0.0


@given(node_lists, quarters)
def test_growth_is_the_error_on_the_first_power_that_is_missed(
    nodes: list[float], at: float
) -> None:
    degree = len(nodes)
    weights = lagrange_weights(nodes, at)
    value = sum(w * node**degree for w, node in zip(weights, nodes, strict=True))
    scale = max(1.0, *(abs(w) for w in weights)) * 10**degree
    assert abs(at**degree - value) == pytest.approx(growth(nodes, at), abs=1e-11 * scale)


@given(node_lists, quarters, st.floats(0.1, 10))
def test_weights_do_not_depend_on_the_unit_of_the_coordinate(
    nodes: list[float], at: float, unit: float
) -> None:
    scaled = lagrange_weights([unit * node for node in nodes], unit * at)
    for a, b in zip(scaled, lagrange_weights(nodes, at), strict=True):
        assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
