"""Video: a prompt's clip, in full and accelerated, in step with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.media import Clip
from adaptive_diffusion.apps.page.drawing import file_with
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Stop
from adaptive_diffusion.apps.page.prompts import FIRST_PROMPTS, prompt_box
from adaptive_diffusion.apps.page.race import View
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import Asked, Controls
from adaptive_diffusion.apps.page.sides import SHOWN, side_by_side
from adaptive_diffusion.apps.schedulers import takes
from adaptive_diffusion.miniatures import ARGUMENTS

__all__ = ["video_tab"]

_PARAMETER = "num_frames"  # what tells pipelines that make videos
_FRAMES = 16
_LABELLED: dict[str, Any] = {"show_label": True, "container": True, "padding": True}


def video_tab(models: Models, runs: Runs, controls: Controls, tab: gr.Tab) -> None:
    """Builds the tab; whoever opens it gets a model that makes videos, if there is one."""
    first = models.first_with(_PARAMETER) or models.names[0]
    with gr.Row():
        prompt = prompt_box(models, controls, FIRST_PROMPTS, first=first, tab="video")
        start = gr.Button("Generate", variant="primary", elem_id="video-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="video-cancel", min_width=100)
        frames = gr.Slider(
            1, 129, _frames(first), step=1, label="Frames", scale=3, elem_id="video-frames"
        )
    with gr.Row():
        full_status = gr.HTML(label="Full run", elem_id="video-full-status", **_LABELLED)
        fast_status = gr.HTML(label="Accelerated", elem_id="video-fast-status", **_LABELLED)
    clips = gr.Image(
        label=_label(),
        elem_id="video-clips",
        **SHOWN,
    )

    def work(stop: Stop, asked: Asked, prompt: str, frames: float) -> Iterator[tuple[Any, ...]]:
        pipes = asked.pipeline(models), asked.pipeline(models)
        if not takes(type(pipes[0]).__call__, _PARAMETER):
            raise ValueError(
                f"{asked.model} makes no videos: start the page with one that does, "
                "adaptive-diffusion ui --model FOLDER_OR_HUB_ID"
            )
        samplers = [asked.sampler(pipe, num_frames=int(frames)) for pipe in pipes]
        wanted = [prompt] if samplers[0].is_conditional else []
        samples = samplers[0].plan(wanted, 1, asked.seed)
        for views, said in side_by_side(samplers, samples, asked, models, stop):
            yield (_together(views), *said)

    runs.start(
        [start.click, prompt.submit],
        work,
        [prompt, frames],
        [clips, full_status, fast_status],
        [full_status, fast_status],
    )
    runs.cancel(cancel)

    def choose(model: str) -> Any:
        found = models.first_with(_PARAMETER)
        return gr.skip() if found is None or models.traits(model).takes(_PARAMETER) else found

    tab.select(choose, controls.model, controls.model, api_visibility="private")
    controls.model.change(_frames, controls.model, frames, api_visibility="private")


def _frames(model: str) -> int:
    return ARGUMENTS.get(model, {}).get(_PARAMETER, _FRAMES)


def _label(scale: int | None = None) -> str:
    amplified = "" if scale is None else f", amplified {scale} times"
    return f"Full run | accelerated | difference{amplified}"


def _together(views: Sequence[View]) -> Any:
    """The two clips and their difference as one GIF, so that they play in step."""
    full, fast = (view.finished for view in views)
    if full is None or fast is None:
        return None
    if not isinstance(full, Clip) or not isinstance(fast, Clip):
        raise ValueError(f"the model makes a {full.kind}: see the Generate tab")
    film, scale = _film(full, fast)
    return gr.Image(film, label=_label(scale))


@lru_cache(maxsize=4)  # a finished race may be shown twice
def _film(full: Clip, fast: Clip) -> tuple[str, int]:
    content, scale = fast.film_beside(full)
    return file_with(content, fast.suffix), scale
