"""Models are loaded once, by the names the page was started with, and shared safely."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_pipelines import TINY_PIPELINES

import adaptive_diffusion as ad
from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.schedulers import SCHEDULERS
from adaptive_diffusion.apps.sharing import INPAINTING, REDRAWING
from adaptive_diffusion.apps.weights import Lora


@pytest.fixture
def models() -> Models:
    return Models(["sd15", "dit"], load=lambda name, _: TINY_PIPELINES[name].make())


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

    def load(name: str, options: LoadOptions) -> Any:
        loaded.append(name)
        return TINY_PIPELINES[name].make()

    models = Models(["sd15"], load=load)
    assert loaded == []
    models.pipeline("sd15")
    models.pipeline("sd15")
    assert loaded == ["sd15"]


def test_the_seconds_of_loading_are_told_once(models: Models) -> None:
    assert list(models.loading("sd15"))
    assert list(models.loading("sd15")) == []
    with pytest.raises(ValueError, match="no model 'else'"):
        list(models.loading("else"))


def test_without_its_loras_a_model_is_another() -> None:
    loaded: list[int] = []

    def load(name: str, options: LoadOptions) -> Any:
        loaded.append(len(options.loras))
        return TINY_PIPELINES[name].make()

    models = Models(["sd15"], LoadOptions(loras=(Lora("style.safetensors", 0.8),)), load=load)
    with_lora, bare = models.pipeline("sd15"), models.pipeline("sd15", bare=True)
    assert loaded == [1, 0]
    assert with_lora.unet is not bare.unet
    assert models.pipeline("sd15").unet is with_lora.unet


def test_what_a_model_takes_is_known_from_its_folder(model: Any) -> None:
    models = Models([str(model), "owner/name"], load=lambda *_: pytest.fail("a model was loaded"))
    traits = models.traits(str(model))
    assert traits.takes("prompt")
    assert not traits.takes("magic")
    assert "ddim" in traits.schedulers
    assert "flow-euler" not in traits.schedulers
    unknown = models.traits("owner/name")
    assert unknown.takes("magic")
    assert list(unknown.schedulers) == list(SCHEDULERS)


def test_once_loaded_a_model_is_known() -> None:
    models = Models(["ddim"], load=lambda name, _: TINY_PIPELINES[name].make())
    assert models.traits("ddim").takes("prompt")
    models.pipeline("ddim")
    assert not models.traits("ddim").takes("prompt")
    assert models.traits("ddim").schedulers == ["ddim"]


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


def test_a_model_that_makes_videos_is_found_without_loading_any(
    model: Any, clip_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive_diffusion.apps.page.models.fitting", None)  # takes long
    names = ["owner/name", str(model), str(clip_model)]
    models = Models(names, load=lambda *_: pytest.fail("a model was loaded"))
    assert models.first_with("num_frames") == str(clip_model)
    assert models.first_with("prompt") == str(model)
    assert models.first_with("magic") is None
