"""The settings of the page: what their values ask for."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.errors import PolicyError
from adaptive_diffusion.policies import ErrorControlled, Planned


@pytest.fixture
def values() -> dict[str, Any]:
    """What the components have at first, by their labels."""
    with gr.Blocks(analytics_enabled=False):
        inputs = Controls(Models(["emoji"])).inputs
    return {component.label: component.value for component in inputs}


def test_the_default_tolerance_decides_at_first(values: dict[str, Any]) -> None:
    asked = Controls.read(*values.values())
    assert asked.policy == ErrorControlled()
    assert (asked.model, asked.steps, asked.scheduler, asked.seed) == ("emoji", 50, None, 0)


@pytest.mark.parametrize(("tolerance", "nfe"), [(0.3, 0), (0.3, None)])
def test_without_a_number_of_calls_the_tolerance_decides(
    values: dict[str, Any], tolerance: float, nfe: Any
) -> None:
    values |= {"Tolerance": tolerance, "Exactly this many calls": nfe}
    assert Controls.read(*values.values()).policy == ErrorControlled(tolerance)


def test_a_number_of_calls_takes_the_place_of_the_tolerance(values: dict[str, Any]) -> None:
    values |= {"Exactly this many calls": 15}
    assert Controls.read(*values.values()).policy == Planned(15)


def test_one_call_is_too_few(values: dict[str, Any]) -> None:
    values |= {"Exactly this many calls": 1}
    with pytest.raises(PolicyError, match="at least 2"):
        _ = Controls.read(*values.values()).policy


@pytest.mark.parametrize("label", ["Tolerance", "Guidance", "Seed"])
def test_an_empty_number_is_told(values: dict[str, Any], label: str) -> None:
    values |= {label: None}
    with pytest.raises(ValueError, match="must be numbers: one of them is empty"):
        Controls.read(*values.values())
