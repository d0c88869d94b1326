"""Video: a prompt's film, in full and accelerated."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from adaptive_diffusion.apps.loading import takes
from adaptive_diffusion.apps.page.drawing import fidelity, pixels, status
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.running import cancels, runs
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.apps.page.sides import SHOWN

__all__ = ["video_tab"]

_FRAME = 125  # milliseconds


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
                    fidelity(fast_view.images, full_view.images),  # type: ignore[arg-type]
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
    if not view.done or view.images is None:
        return None
    if view.images.ndim != 5:
        raise ValueError("the model makes single pictures: see the Generate tab")
    return str(_save_gif(view.images[0]))


def _save_gif(frames: np.ndarray) -> Path:
    first, *others = (Image.fromarray(pixels(frame)) for frame in frames)
    with tempfile.NamedTemporaryFile(suffix=".gif", delete=False) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=_FRAME, loop=0)
    return Path(file.name)
