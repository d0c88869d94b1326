"""`nfe=n` on the trained models: so many calls, and no more."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import ARGUMENTS, pipeline_miniatures
from adaptive_diffusion.miniatures.motions import euler
from adaptive_diffusion.miniatures.rooms import Rooms

STEPS = 12
QUICK = ("digits", "emoji", "scenes")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in pipeline_miniatures()
    ],
)
def test_every_pipeline_makes_its_calls(name: str) -> None:
    pipe = ad.load_miniature(name)
    pipe.set_progress_bar_config(disable=True)
    takes_prompts = "prompt" in inspect.signature(type(pipe).__call__).parameters
    call: dict[str, Any] = {"prompt": "a red apple"} if takes_prompts else {}
    call |= ARGUMENTS.get(name, {})
    for nfe in (2, 5):
        with ad.accelerate(pipe, nfe=nfe) as made:
            pipe(num_inference_steps=STEPS, generator=torch.manual_seed(0), **call)
        assert made.report.nfe == [nfe]
        assert made.report.notes == []


@pytest.mark.parametrize("nfe", [2, 5])
def test_paths_are_planned_with_as_many(nfe: int) -> None:
    motions = ad.load_miniature("motions")
    denoise = ad.AdaptiveDenoiser(motions.denoiser, ad.Planned(nfe), euler(STEPS))
    denoise.start(motions.times(STEPS), motions.schedule(STEPS))
    rooms, noise = Rooms.random(4, seed=0), motions.noise(range(4))
    assert motions.sample(rooms, noise, STEPS, denoise, denoise.step).isfinite().all()
    assert denoise.report().nfe == [nfe] * 4
