"""The settings of the page: what their values ask for, and what a model is offered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from profiles import measured_profile
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.settings import Asked, Controls
from adaptive_diffusion.apps.profiles import Profiles, Source
from adaptive_diffusion.apps.sharing import own_side
from adaptive_diffusion.errors import PolicyError, ProfileError
from adaptive_diffusion.policies import ErrorControlled, Planned


def controls(models: Models) -> Controls:
    with gr.Blocks(analytics_enabled=False):
        return Controls(models)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(["emoji", "sd15"], load=lambda *_: TINY_PIPELINES["sd15"].make())


@pytest.fixture
def values(models: Models) -> dict[str, Any]:
    """What the components have at first, by their labels."""
    return {component.label: component.value for component in controls(models).inputs}


def plan(models: Models, values: dict[str, Any]) -> Any:
    asked = Controls.read(*values.values())
    return asked.plan(models, asked.pipeline(models)).policy


def test_the_default_tolerance_decides_at_first(models: Models, values: dict[str, Any]) -> None:
    assert plan(models, values) == ErrorControlled()
    asked = Controls.read(*values.values())
    assert asked == Asked("emoji", False, {"quality": "balanced"}, 50, None, 3.0, None, seed=0)


@pytest.mark.parametrize(
    ("way", "changed", "policy"),
    [
        ("quality", {"Quality": "fast"}, ErrorControlled(0.08)),
        ("tolerance", {"Tolerance": 0.3}, ErrorControlled(0.3)),
        ("calls", {"Number of calls": 17}, Planned(17)),
    ],
)
def test_one_way_decides_and_the_others_do_not_count(
    models: Models, values: dict[str, Any], way: str, changed: dict[str, Any], policy: Any
) -> None:
    values |= {"Model": "sd15", "Skip calls by": way, **changed}
    assert plan(models, values) == policy


def test_a_number_of_calls_uses_what_was_published_with_the_model() -> None:
    models = Models(["emoji"])
    asked = Asked("emoji", False, {"nfe": 15}, 50, None, 3.0, None, 0)
    skipping = asked.plan(models, asked.pipeline(models))
    assert isinstance(skipping.policy, Planned)
    assert skipping.policy.nfe == 15
    assert skipping.policy.loops
    [note] = skipping.notes
    assert note.startswith("the profile published with emoji is used: ")
    assert skipping.source.keys() == {"profile"}
    assert asked.source(models) == {"model": "emoji"}
    again = asked.plan(models, asked.pipeline(models))
    assert again.policy == skipping.policy  # so that its plans are made once


def test_a_target_chooses_among_the_profiles_plans() -> None:
    models = Models(["emoji"])
    source = models.profiles.of("emoji")
    assert source is not None
    profile, _ = source.profiles  # the other one was measured under noise

    def calls(target: float | None) -> int:
        asked = Asked("emoji", False, {"target_psnr": target}, 50, None, 3.0, None, 0)
        policy = asked.plan(models, asked.pipeline(models)).policy
        assert isinstance(policy, Planned)
        return policy.nfe

    assert calls(None) == profile.nfe
    assert calls(40) <= calls(60)
    with pytest.raises(ProfileError, match="no plan in the profile reaches 999 dB"):
        calls(999)


def test_what_differs_from_the_profile_is_told() -> None:
    models = Models(["emoji"])
    asked = Asked("emoji", False, {"nfe": 15}, 20, "euler", 3.0, None, 0)
    notes = asked.plan(models, asked.pipeline(models)).notes
    assert any("scheduler" in note for note in notes)


def test_a_profile_that_is_not_there_is_told(
    models: Models, values: dict[str, Any], model: Path
) -> None:
    models = Models([str(model)], load=models._load)
    values |= {"Model": str(model), "Skip calls by": "profile"}
    with pytest.raises(ValueError, match="sd15 has no profile: make one with calibrate"):
        plan(models, values)


def test_a_profile_that_was_given_comes_first() -> None:
    given = Profiles({"emoji": Source("profile.json", (measured_profile(),))})
    models = Models(["emoji"], profiles=given)
    for how in ({"nfe": 4}, {"target_psnr": None}):
        asked = Asked("emoji", False, how, 50, None, 3.0, None, 0)
        assert asked.plan(models, asked.pipeline(models)).profile == measured_profile()


def test_one_call_is_too_few(models: Models, values: dict[str, Any]) -> None:
    values |= {"Skip calls by": "calls", "Number of calls": 1}
    with pytest.raises(PolicyError, match="at least 2"):
        plan(models, values)


@pytest.mark.parametrize("label", ["Tolerance", "Number of calls", "Guidance", "Seed"])
def test_an_empty_number_is_told(values: dict[str, Any], label: str) -> None:
    values |= {label: None}
    with pytest.raises(ValueError, match="one of the numbers is empty"):
        Controls.read(*values.values())


def test_a_negative_prompt_goes_to_models_that_take_one(values: dict[str, Any]) -> None:
    values |= {"Negative prompt": " blurred "}
    asked = Controls.read(*values.values())
    assert asked.sampler(TINY_PIPELINES["sd15"].make()).settings.negative_prompt == "blurred"
    assert asked.sampler(TINY_PIPELINES["ddim"].make()).settings.negative_prompt is None


def test_a_control_image_goes_to_models_with_a_controlnet(
    models: Models, values: dict[str, Any], tmp_path: Path
) -> None:
    """Reduced to the model's own size: a photograph would decide the size of the picture."""
    Image.new("RGB", (640, 320)).save(tmp_path / "edges.png")
    values |= {"Control image": str(tmp_path / "edges.png"), "Steps of the full run": 2}
    asked = Controls.read(*values.values())
    pipe = TINY_PIPELINES["controlnet"].make()
    sampler = asked.sampler(pipe)
    assert max(sampler.settings.control_image.size) == own_side(pipe)
    [made] = sampler.run(sampler.plan(["a house"], 1, asked.seed)).made
    assert made.still.shape[:2] == sampler.settings.control_image.size[::-1]
    assert asked.sampler(TINY_PIPELINES["sd15"].make()).settings.control_image is None
    assert "control_image" not in asked.source(models)
    with_one = Models(["emoji"], LoadOptions(controlnet="owner/name"))
    assert asked.source(with_one)["control_image"] == "edges.png"
    with pytest.raises(ValueError, match="needs a control image: add one in the settings"):
        replace(asked, control=None).sampler(pipe)


def test_a_model_is_offered_what_it_takes(model: Path) -> None:
    made = controls(Models(["emoji", "digits", str(model)]))
    ways, schedulers, guidance, negative, _ = made._follow_model("digits", "profile")
    assert (ways["value"], ways["choices"][-1]) == ("profile", "profile")
    assert schedulers["choices"] == ["the model's own", "ddim"]
    assert not guidance["visible"]
    assert not negative["visible"]
    ways, schedulers, guidance, negative, control = made._follow_model(str(model), "profile")
    assert ways == gr.update(choices=["quality", "tolerance", "calls"], value="quality")
    assert "euler" in schedulers["choices"]
    assert "flow-euler" not in schedulers["choices"]
    assert guidance["value"] == 5.0
    assert guidance["visible"]
    assert negative["visible"]
    assert not control["visible"]
    assert controls(Models(["emoji"], LoadOptions(controlnet="owner/name"))).control.visible
