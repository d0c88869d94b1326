"""Which schedulers fit a pipeline, and what is put right when one is loaded."""

from __future__ import annotations

import pytest
from diffusers import StableDiffusionPipeline

from adaptive_diffusion.apps import loading
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline, pipeline_class
from adaptive_diffusion.apps.schedulers import SCHEDULERS, fitting, make_scheduler


@pytest.mark.parametrize(
    ("pipeline", "scheduler", "words"),
    [
        ("dit", "euler", "does not scale its noise"),
        ("flux", "flow-dpm++", "noise levels of its own"),
        ("cogvideox", "ddim", "noise schedule is shifted"),
        ("ddim", "euler", "works with the scheduler ddim only"),
        ("sd3", "euler", "this is a flow-matching model"),
    ],
)
def test_what_would_make_worse_pictures_is_refused(tiny, pipeline, scheduler, words):
    with pytest.raises(ValueError, match=words):
        make_scheduler(tiny(pipeline), scheduler)


@pytest.mark.parametrize(
    ("pipeline", "scheduler"),
    [
        ("dit", "dpm++"),
        ("ldm", "dpm++"),
        ("img2img", "euler"),
        ("flux", "flow-unipc"),
        ("qwen_image", "flow-unipc"),
    ],
)
def test_what_fits_is_made(tiny, pipeline, scheduler):
    made = make_scheduler(tiny(pipeline), scheduler)
    assert type(made).__name__ == SCHEDULERS[scheduler][0]


def test_a_flow_keeps_its_shift_under_another_name(tiny):
    assert make_scheduler(tiny("wan"), "flow-euler").config.shift == 3
    assert make_scheduler(tiny("sd3"), "flow-unipc").config.flow_shift == 3


def test_a_scheduler_whose_package_is_missing_is_not_offered(tiny, monkeypatch):
    """Diffusers then has a stand-in for it."""
    stand_in = type("LMSDiscreteScheduler", (), {"_backends": ["torch", "no_such_package"]})
    pipe = tiny("sd15")
    assert "lms" in fitting(type(pipe), pipe.scheduler)
    monkeypatch.setattr("diffusers.LMSDiscreteScheduler", stand_in)
    with pytest.raises(ValueError, match="needs no_such_package, which is not installed"):
        make_scheduler(pipe, "lms")
    offered = fitting(type(pipe), pipe.scheduler)
    assert "lms" not in offered
    assert "euler" in offered


def test_clip_skip_works_with_every_transformers(tiny, monkeypatch, model):
    monkeypatch.setattr(loading, "_load", lambda *_: tiny("sd15"))
    pipe = load_pipeline(str(model), LoadOptions(device="cpu"))
    pipe("x", num_inference_steps=1, clip_skip=1, output_type="latent", height=32, width=32)


def test_the_class_of_a_pipeline_is_known_from_its_folder(model, tmp_path):
    assert pipeline_class(str(model)) is StableDiffusionPipeline
    assert pipeline_class("owner/name") is None
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    assert pipeline_class(str(tmp_path)) is None
    (tmp_path / "model_index.json").write_text("[")
    assert pipeline_class(str(tmp_path)) is None
