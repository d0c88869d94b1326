"""Batch: several seeds of a prompt in one call, each with as many denoiser calls as it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.drawing import batch_status, pixels
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.running import cancels, runs
from adaptive_diffusion.apps.page.settings import Controls

__all__ = ["batch_tab"]

_MOST = 16


def batch_tab(models: Models, newest: Newest, controls: Controls) -> None:
    """Builds the tab."""
    with gr.Row():
        prompt = gr.Textbox("a tiger face", label="Prompt", scale=5, elem_id="batch-prompt")
        count = gr.Slider(1, _MOST, 6, step=1, label="Pictures", elem_id="batch-count")
        start = gr.Button("Generate", variant="primary", elem_id="batch-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="batch-cancel", min_width=100)
    status = gr.HTML(elem_id="batch-status")
    gallery = gr.Gallery(
        label="Each seed with its denoiser calls", columns=4, elem_id="batch-gallery"
    )

    def work(
        cancelled: threading.Event, prompt: str, count: float, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        asked = controls.read(*values)
        sampler = asked.sampler(asked.pipeline(models))
        wanted = [prompt] if sampler.is_conditional else []
        samples = sampler.plan(wanted, int(count), asked.seed)
        for (view,) in race([Run(sampler, samples, asked.policy)], cancelled):
            yield batch_status(view, asked.steps), _captioned(view, asked.seed)

    runs(
        newest,
        [start.click, prompt.submit],
        work,
        [prompt, count, *controls.inputs],
        [status, gallery],
        [status],
    )
    cancels(newest, cancel)


def _captioned(view: View, seed: int) -> Any:
    if view.made is None or not view.masks:
        return gr.skip()
    masks = view.masks if len(view.masks) == len(view.made) else view.masks * len(view.made)
    return [
        (pixels(medium.still), f"seed {seed + index}: {sum(mask)} calls")
        for index, (medium, mask) in enumerate(zip(view.made, masks, strict=True))
    ]
