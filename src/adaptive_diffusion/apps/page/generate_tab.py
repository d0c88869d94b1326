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
from adaptive_diffusion.miniatures import PROMPTS

__all__ = ["generate_tab"]


def generate_tab(models: Models, newest: Newest, controls: Controls) -> gr.Image:
    """Builds the tab; returns where the accelerated picture is."""
    with gr.Row():
        prompt = gr.Textbox(
            PROMPTS["emoji"][0],
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
    controls.model.input(
        _prompt, [controls.model, prompt], prompt, api_visibility="private", show_progress="hidden"
    )
    return sides.fast


def _prompt(model: str, present: str) -> str:
    """One that the model knows, unless the visitor has typed another than was given."""
    given = [prompts[0] for prompts in PROMPTS.values()]
    return PROMPTS[model][0] if model in PROMPTS and present in given else present
