"""Generate: a prompt's picture, in full and accelerated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Stop
from adaptive_diffusion.apps.page.prompts import FIRST_PROMPTS, prompt_box
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import Asked, Controls
from adaptive_diffusion.apps.page.sides import Sides

__all__ = ["generate_tab"]


def generate_tab(models: Models, runs: Runs, controls: Controls) -> gr.Image:
    """Builds the tab; returns where the accelerated picture is."""
    with gr.Row():
        prompt = prompt_box(models, controls, FIRST_PROMPTS, first=models.names[0], tab="generate")
        start = gr.Button("Generate", variant="primary", elem_id="generate-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="generate-cancel", min_width=100)
    sides = Sides("generate", models)

    def work(stop: Stop, asked: Asked, prompt: str) -> Iterator[tuple[Any, ...]]:
        samplers = (
            asked.sampler(asked.pipeline(models)),
            asked.sampler(asked.pipeline(models)),
        )
        wanted = [prompt] if samplers[0].is_conditional else []
        samples = samplers[0].plan(wanted, 1, asked.seed)
        yield from sides.watch(samplers, samples, asked, stop)

    runs.start(
        [start.click, prompt.submit, controls.seed.submit],
        work,
        [prompt],
        sides.outputs,
        sides.statuses,
    )
    runs.cancel(cancel)
    return sides.fast
