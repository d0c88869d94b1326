"""Models are loaded once, by the names the page was started with, and shared safely."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_pipelines import TINY_PIPELINES

import adaptive_diffusion as ad
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.sharing import INPAINTING, REDRAWING


@pytest.fixture
def models() -> Models:
    return Models(["sd15", "dit"], lambda name: TINY_PIPELINES[name].make())


def test_two_pipelines_share_weights_and_nothing_that_a_run_changes(models: Models) -> None:
    one, other = models.pipeline("sd15"), models.pipeline("sd15", "euler")
    assert one.unet is other.unet
    assert type(one.scheduler).__name__ == "DDIMScheduler"
    assert type(other.scheduler).__name__ == "EulerDiscreteScheduler"
    again = models.pipeline("sd15")
    assert one.scheduler is not again.scheduler
    ad.enable(one)
    assert type(one) is not type(again)


def test_a_model_is_loaded_once(models: Models) -> None:
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        return TINY_PIPELINES[name].make()

    models = Models(["sd15"], load)
    assert loaded == []
    models.pipeline("sd15")
    models.pipeline("sd15")
    assert loaded == ["sd15"]


def test_a_visitor_can_not_have_anything_else_loaded(models: Models) -> None:
    with pytest.raises(ValueError, match="choose from sd15, dit"):
        models.pipeline("/somewhere/else")


@pytest.mark.parametrize("edit", [REDRAWING, INPAINTING])
def test_editing_pipelines_are_made_of_the_same_parts(models: Models, edit: str) -> None:
    pipe = models.pipeline("sd15")
    editor = models.editor("sd15", "euler", edit)
    assert editor.unet is pipe.unet
    assert editor.scheduler is not pipe.scheduler
    assert type(editor.scheduler).__name__ == "EulerDiscreteScheduler"
    with pytest.raises(ValueError, match=f"DiTPipeline can't do {edit}"):
        models.editor("dit", None, edit)


def test_a_model_that_makes_videos_is_found_without_loading_any(model, clip_model) -> None:
    names = ["owner/name", str(model), str(clip_model)]
    models = Models(names, lambda _: pytest.fail("a model was loaded"))
    assert models.first_with("num_frames") == str(clip_model)
    assert models.first_with("prompt") == str(model)
    assert models.first_with("magic") is None
