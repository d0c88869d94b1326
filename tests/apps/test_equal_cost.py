"""The search for the paper's threshold, on costs that fall as the threshold rises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.equal_cost import paper_rule_at
from adaptive_diffusion.policies import ThirdOrder


@given(st.floats(-3.5, 0.8), st.floats(5, 50))
def test_it_costs_at_least_the_target_and_hardly_more(center, target):
    def cost(rule: ThirdOrder) -> float:
        return 55 / (1 + math.exp(math.log10(rule.threshold) - center))

    rule = paper_rule_at(target, cost, probes=16)
    cheapest, dearest = (cost(ThirdOrder(each)) for each in (10.0, 1e-4))
    if cheapest < target < dearest:
        assert target <= cost(rule) <= target + 0.6
    if dearest < target:
        assert rule.threshold == 1e-4


@pytest.mark.parametrize("probes", [1, 4])
def test_it_runs_no_more_than_the_probes_and_keeps_the_settings(probes):
    tried = []

    def cost(rule: ThirdOrder) -> float:
        tried.append(rule)
        return 0.0

    rule = paper_rule_at(10, cost, probes, max_skip=6)
    assert len(tried) == probes
    assert all(each.max_skip == 6 for each in [rule, *tried])
