"""Generate: a prompt's picture, in full and accelerated."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.running import cancels, runs
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.apps.page.sides import Sides

__all__ = ["generate_tab"]


def generate_tab(models: Models, newest: Newest, controls: Controls) -> gr.Image:
    """Builds the tab; returns where the accelerated picture is."""
    with gr.Row():
        prompt = gr.Textbox(
            "a red apple",
            label="Prompt",
            placeholder="what to draw; Enter generates, Esc cancels",
            scale=6,
            elem_id="generate-prompt",
        )
        start = gr.Button("Generate", variant="primary", elem_id="generate-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="generate-cancel", min_width=100)
    sides = Sides("generate")

    def work(cancelled: threading.Event, prompt: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        asked = controls.read(*values)
        samplers = (
            asked.sampler(asked.pipeline(models)),
            asked.sampler(asked.pipeline(models)),
        )
        wanted = [prompt] if samplers[0].is_conditional else []
        samples = samplers[0].plan(wanted, 1, asked.seed)
        yield from sides.watch(samplers, samples, asked.policy, cancelled)

    runs(
        newest,
        [start.click, prompt.submit, controls.seed.submit],
        work,
        [prompt, *controls.inputs],
        sides.outputs,
        sides.statuses,
    )
    cancels(newest, cancel)
    return sides.fast
