"""Video: a prompt's film, in full and accelerated."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.encoding import enlarged
from adaptive_diffusion.apps.loading import pipeline_class
from adaptive_diffusion.apps.media import Clip
from adaptive_diffusion.apps.page.drawing import SMALLEST, fidelity, status, temporary_file
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.running import cancels, runs
from adaptive_diffusion.apps.page.settings import Controls, guidance_of
from adaptive_diffusion.apps.page.sides import SHOWN
from adaptive_diffusion.apps.schedulers import takes
from adaptive_diffusion.miniatures import ARGUMENTS, PROMPTS

__all__ = ["video_tab"]


_PARAMETER = "num_frames"  # what tells pipelines that make videos
_PROMPT = PROMPTS["motion"][0]
_FRAMES = 16


def video_tab(models: Models, newest: Newest, controls: Controls, tab: gr.Tab) -> None:
    """Builds the tab; whoever opens it gets a model that makes videos, if there is one."""
    with gr.Row():
        prompt = gr.Textbox(_PROMPT, label="Prompt", scale=5, elem_id="video-prompt")
        frames = gr.Slider(
            1, 129, _frames(models.names[0]), step=1, label="Frames", elem_id="video-frames"
        )
        start = gr.Button("Generate", variant="primary", elem_id="video-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="video-cancel", min_width=100)
    with gr.Row():
        with gr.Column():
            full = gr.Image(label="Full run", elem_id="video-full", **SHOWN)
            full_status = gr.HTML(elem_id="video-full-status")
        with gr.Column():
            fast = gr.Image(label="Accelerated", elem_id="video-fast", **SHOWN)
            fast_status = gr.HTML(elem_id="video-fast-status")

    def work(
        cancelled: threading.Event, prompt: str, frames: float, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        asked = controls.read(*values)
        pipes = asked.pipeline(models), asked.pipeline(models)
        if not takes(type(pipes[0]).__call__, _PARAMETER):
            raise ValueError(
                f"{asked.model} makes no videos: start the page with one that does, "
                "adaptive-diffusion ui --model FOLDER_OR_HUB_ID"
            )
        samplers = [asked.sampler(pipe, num_frames=int(frames)) for pipe in pipes]
        samples = samplers[0].plan([prompt], 1, asked.seed)
        runs = [Run(samplers[0], samples, None), Run(samplers[1], samples, asked.policy)]
        for full_view, fast_view in race(runs, cancelled):
            figures = []
            if full_view.done and fast_view.done:
                figures = [
                    fidelity(fast_view.made[0], full_view.made[0]),  # type: ignore[index]
                    f"{full_view.seconds / fast_view.seconds:.2f}× faster",
                ]
            yield (
                _film(full_view),
                status(full_view, asked.steps),
                _film(fast_view),
                status(fast_view, asked.steps, *figures),
            )

    runs(
        newest,
        [start.click, prompt.submit],
        work,
        [prompt, frames, *controls.inputs],
        [full, full_status, fast, fast_status],
        [full_status, fast_status],
    )
    cancels(newest, cancel)

    def choose(model: str) -> tuple[Any, ...]:
        found = models.first_with(_PARAMETER)
        kind = pipeline_class(model)
        if found is None or kind is None or takes(kind.__call__, _PARAMETER):
            return gr.skip(), gr.skip()
        return found, guidance_of(found)

    tab.select(
        choose, controls.model, [controls.model, controls.guidance], api_visibility="private"
    )
    controls.model.change(_frames, controls.model, frames, api_visibility="private")


def _frames(model: str) -> int:
    return ARGUMENTS.get(model, {}).get(_PARAMETER, _FRAMES)


def _film(view: View) -> Any:
    """The frames as a GIF that plays over and over; none before the run is done."""
    if not view.done or view.made is None:
        return None
    clip = view.made[0]
    if not isinstance(clip, Clip):
        raise ValueError(f"the model makes a {clip.kind}: see the Generate tab")
    return temporary_file(_enlarged(clip))


@lru_cache(maxsize=16)  # as its file is
def _enlarged(clip: Clip) -> Clip:
    return Clip(enlarged(clip.frames, SMALLEST))
