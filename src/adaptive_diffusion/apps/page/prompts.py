"""The prompts of the tabs: hidden where a model takes none, and such as the model knows."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.miniatures import PROMPTS

__all__ = ["FIRST_PROMPTS", "prompt_box"]

FIRST_PROMPTS = {model: prompts[0] for model, prompts in PROMPTS.items()}
"""For each miniature one that it knows."""


def prompt_box(
    models: Models,
    controls: Controls,
    known: Mapping[str, str],
    *,
    first: str,
    tab: str,
    label: str = "Prompt",
    lines: int = 1,
) -> gr.Textbox:
    """Builds a prompt that follows the chosen model.

    Args:
        models: the models that can be chosen.
        controls: where they are chosen.
        known: by the model's name, a prompt that it knows.
        first: the model that the tab begins with.
        tab: what the component's id begins with.
        label: of the component.
        lines: that it has.
    """
    box = gr.Textbox(
        known.get(first, known["emoji"]),
        label=label,
        placeholder="what to draw; Enter generates, Esc cancels" if lines == 1 else None,
        lines=lines,
        scale=6,
        min_width=200,
        visible=models.traits(first).takes("prompt"),
        elem_id=f"{tab}-prompt",
    )

    def follow(model: str, present: str) -> object:
        """What the visitor has typed is left."""
        given = present in known.values()
        text = known[model] if given and model in known else present
        return gr.update(value=text, visible=models.traits(model).takes("prompt"))

    controls.model.change(
        follow, [controls.model, box], box, show_progress="hidden", api_visibility="private"
    )
    return box
