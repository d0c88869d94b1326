"""Edit: a picture changed by a prompt, made again at every stroke of the brush."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from adaptive_diffusion.apps.inpainting import KeepOutside, takes_masks
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Stop
from adaptive_diffusion.apps.page.prompts import FIRST_PROMPTS, prompt_box
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import LARGEST, Asked, Controls
from adaptive_diffusion.apps.page.sides import Sides
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.apps.sharing import INPAINTING, REDRAWING, editing_size

__all__ = ["edit_tab"]

_KNOWN = FIRST_PROMPTS | {"emoji": "a green apple"}
_REDRAW = "redraw all (image-to-image)"
_REPAINT = "repaint what is brushed (inpainting)"


def edit_tab(models: Models, runs: Runs, controls: Controls, generated: gr.Image) -> None:
    """Builds the tab.

    Args:
        models: the models that can be chosen.
        runs: the visitors' runs.
        controls: the settings.
        generated: where a picture to begin with can be taken from.
    """
    with gr.Row():
        prompt = prompt_box(models, controls, _KNOWN, first=models.names[0], tab="edit")
        start = gr.Button("Redo", variant="primary", elem_id="edit-start", min_width=100)
        cancel = gr.Button("Cancel", elem_id="edit-cancel", min_width=100)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            editor = gr.ImageEditor(
                label="Picture",
                type="pil",
                sources=["upload", "clipboard"],
                brush=gr.Brush(
                    default_size=24, colors=["#d7263d", "#2a9d3f", "#1b6ca8", "#f4b400"]
                ),
                layers=False,
                elem_id="edit-picture",
            )
            take = gr.Button("Take the generated picture", elem_id="edit-take")
            way = gr.Radio([_REDRAW, _REPAINT], value=_REDRAW, label="Brush mode")
            strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Strength")
        with gr.Column(scale=3, min_width=300):
            sides = Sides("edit", models)

    def work(
        stop: Stop,
        asked: Asked,
        drawn: dict[str, Any] | None,
        prompt: str,
        way: str,
        strength: float,
    ) -> Iterator[tuple[Any, ...]]:
        if drawn is None or drawn.get("background") is None:
            raise ValueError("no picture yet: upload one, or draw on an empty canvas")
        make, sample = _edit(models, asked, drawn, prompt, way, strength)
        yield from sides.watch((make(), make()), [sample], asked, stop)

    runs.start(
        [start.click, prompt.submit, editor.input, way.input, strength.release],
        work,
        [editor, prompt, way, strength],
        sides.outputs,
        sides.statuses,
    )
    runs.cancel(cancel)
    take.click(lambda picture: picture, generated, editor, api_visibility="private")


def _edit(
    models: Models, asked: Asked, drawn: dict[str, Any], prompt: str, way: str, strength: float
) -> tuple[Callable[[], Sampler], Sample]:
    """What makes a pipeline that does what the strokes mean, and the picture to be made."""

    def make(edit: str, **arguments: Any) -> Sampler:
        return asked.sampler(asked.editor(models, edit), strength=strength, **arguments)

    pipe = asked.pipeline(models)
    size = editing_size(pipe, drawn["background"].size, LARGEST)
    if way == _REDRAW:
        composite = drawn["composite"].convert("RGB").resize(size, Image.Resampling.LANCZOS)
        return partial(make, REDRAWING), Sample(prompt, asked.seed, {"image": composite})
    picture = drawn["background"].convert("RGB").resize(size, Image.Resampling.LANCZOS)
    mask = _brushed(drawn).resize(size, Image.Resampling.NEAREST)
    if not mask.getbbox():
        raise ValueError("nothing is brushed yet: paint over what is to change")
    if takes_masks(pipe):
        pictures = {"image": picture, "mask_image": mask}
        return partial(make, INPAINTING), Sample(prompt, asked.seed, pictures)

    def make_keeping() -> Sampler:
        return make(REDRAWING, callback_on_step_end=KeepOutside(picture, mask, asked.seed))

    return make_keeping, Sample(prompt, asked.seed, {"image": picture})


def _brushed(drawn: dict[str, Any]) -> Image.Image:
    """White where one of the layers has something on it."""
    painted = np.zeros(drawn["background"].size[::-1], dtype=bool)
    for layer in drawn["layers"]:
        painted |= np.asarray(layer.convert("RGBA"))[..., 3] > 0
    return Image.fromarray(painted)
