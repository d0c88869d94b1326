"""Video: a prompt's film, in full and accelerated."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.encoding import enlarged
from adaptive_diffusion.apps.loading import takes
from adaptive_diffusion.apps.media import Clip
from adaptive_diffusion.apps.page.drawing import SMALLEST, fidelity, status
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.running import cancels, runs
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.apps.page.sides import SHOWN

__all__ = ["video_tab"]


def video_tab(models: Models, newest: Newest, controls: Controls) -> None:
    """Builds the tab."""
    with gr.Row():
        prompt = gr.Textbox("a boat on the sea", label="Prompt", scale=5, elem_id="video-prompt")
        frames = gr.Slider(1, 129, 17, step=4, label="Frames", elem_id="video-frames")
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
        if not takes(type(pipes[0]).__call__, "num_frames"):
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


def _film(view: View) -> Any:
    """The frames as a GIF that plays over and over; none before the run is done."""
    if not view.done or view.made is None:
        return None
    clip = view.made[0]
    if not isinstance(clip, Clip):
        raise ValueError(f"the model makes a {clip.kind}: see the Generate tab")
    with tempfile.NamedTemporaryFile(suffix=clip.suffix, delete=False) as file:
        file.write(Clip(enlarged(clip.frames, SMALLEST)).encode({}))
    return file.name
