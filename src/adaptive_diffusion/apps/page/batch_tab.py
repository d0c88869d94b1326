"""Batch: several prompts and seeds in one call, each with as many denoiser calls as it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.drawing import batch_status, pictures, planned_by
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Stop
from adaptive_diffusion.apps.page.prompts import prompt_box
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import Asked, Controls
from adaptive_diffusion.apps.sampling import Sample
from adaptive_diffusion.miniatures import PROMPTS

__all__ = ["batch_tab"]

_MOST = 16
_PROMPTS = 6
_KNOWN = {model: "\n".join(prompts[:_PROMPTS]) for model, prompts in PROMPTS.items()}


def batch_tab(models: Models, runs: Runs, controls: Controls) -> None:
    """Builds the tab."""
    with gr.Row():
        prompts = prompt_box(
            models,
            controls,
            _KNOWN,
            first=models.names[0],
            tab="batch",
            label="Prompts, one in a line",
            lines=_PROMPTS,
        )
        with gr.Column(scale=2, min_width=200):
            start = gr.Button("Generate", variant="primary", elem_id="batch-start")
            cancel = gr.Button("Cancel", elem_id="batch-cancel")
            count = gr.Slider(
                1, _MOST, 1, step=1, label="Seeds for each prompt", elem_id="batch-count"
            )
    status = gr.HTML(elem_id="batch-status")
    gallery = gr.Gallery(show_label=False, columns=4, object_fit="contain", elem_id="batch-gallery")

    def work(stop: Stop, asked: Asked, prompts: str, count: float) -> Iterator[tuple[Any, ...]]:
        pipe = asked.pipeline(models)
        sampler = asked.sampler(pipe)
        wanted = [line.strip() for line in prompts.splitlines() if line.strip()]
        samples = sampler.plan(wanted if sampler.is_conditional else [], int(count), asked.seed)
        if len(samples) > _MOST:
            raise ValueError(f"{len(samples)} pictures are too many for one call: at most {_MOST}")
        skipping = asked.plan(models, pipe)
        source = asked.source(models) | skipping.source
        run = Run(sampler, samples, skipping.policy, source, skipping.notes)
        figures = planned_by(skipping.policy)
        for (view,) in race([run], stop):
            yield batch_status(view, asked.steps, figures), _captioned(view, samples)

    runs.start([start.click], work, [prompts, count], [status, gallery], [status])
    runs.cancel(cancel)


def _captioned(view: View, samples: Sequence[Sample]) -> Any:
    if view.made is None or not view.masks:
        return gr.skip()
    return [
        (picture, f"{sum(mask)} calls · {_name(sample)}")
        for sample, picture, (_, mask) in zip(samples, pictures(view), view.of_each(), strict=True)
    ]


def _name(sample: Sample) -> str:
    return (
        f"seed {sample.seed}" if sample.prompt is None else f"{sample.prompt} · seed {sample.seed}"
    )
