"""Two runs side by side: the full one and the accelerated one, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from adaptive_diffusion.apps.media import Sound, amplified_difference
from adaptive_diffusion.apps.page.drawing import (
    fidelity,
    pictures,
    pixels,
    planned_by,
    status,
    temporary_file,
)
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Stop
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.page.settings import Asked
from adaptive_diffusion.apps.sampling import Sample, Sampler

__all__ = ["SHOWN", "Sides", "side_by_side"]

SHOWN: dict[str, Any] = {
    "interactive": False,
    "buttons": ["download", "fullscreen"],
    "elem_classes": ["shown"],
}
"""How a component is made that only shows something."""


_HEARD: dict[str, Any] = {"interactive": False, "show_label": False}


class Sides:
    """The components that show a pair of pictures, or of sounds with their spectrograms.

    Built where this is called.
    """

    def __init__(self, name: str, models: Models) -> None:
        self._models = models
        with gr.Row():
            with gr.Column(min_width=140):
                self.full = gr.Image(label="Full run", elem_id=f"{name}-full", **SHOWN)
                self.full_sound = gr.Audio(visible=False, elem_id=f"{name}-full-sound", **_HEARD)
                self.full_status = gr.HTML(elem_id=f"{name}-full-status")
            with gr.Column(min_width=140):
                self.fast = gr.Image(label="Accelerated", elem_id=f"{name}-fast", **SHOWN)
                self.fast_sound = gr.Audio(visible=False, elem_id=f"{name}-fast-sound", **_HEARD)
                self.fast_status = gr.HTML(elem_id=f"{name}-fast-status")
        with gr.Row():
            self.slider = gr.ImageSlider(
                label="Full | accelerated", elem_id=f"{name}-slider", min_width=140, **SHOWN
            )
            self.difference = gr.Image(
                label="Difference",
                elem_id=f"{name}-difference",
                min_width=140,
                **SHOWN,
            )

    @property
    def outputs(self) -> list[Any]:
        """The components that `watch` gives values for."""
        return [
            self.full,
            self.full_sound,
            self.full_status,
            self.fast,
            self.fast_sound,
            self.fast_status,
            self.slider,
            self.difference,
        ]

    @property
    def statuses(self) -> list[Any]:
        """Those of them that say how the runs go."""
        return [self.full_status, self.fast_status]

    def watch(
        self,
        samplers: tuple[Sampler, Sampler],
        samples: Sequence[Sample],
        asked: Asked,
        stop: Stop,
    ) -> Iterator[tuple[Any, ...]]:
        """Runs in full and accelerated; gives what the components show, again and again."""
        for views, said in side_by_side(samplers, samples, asked, self._models, stop):
            yield _show(views, said)


def side_by_side(
    samplers: Sequence[Sampler],
    samples: Sequence[Sample],
    asked: Asked,
    models: Models,
    stop: Stop,
) -> Iterator[tuple[list[View], tuple[str, str]]]:
    """Runs in full with the first sampler and accelerated with the second, as it is asked.

    Gives, again and again, what there is to see of both and what their statuses say.
    """
    skipping = asked.plan(models, samplers[1].pipe)
    source = asked.source(models)
    runs = [
        Run(samplers[0], samples, None, source),
        Run(samplers[1], samples, skipping.policy, source | skipping.source, skipping.notes),
    ]
    for views in race(runs, stop):
        full, fast = views
        steps = max(asked.steps if not view.done else len(view.masks[0]) for view in views)
        figures = [*planned_by(skipping.policy), *_comparison(full, fast)]
        yield views, (status(full, steps), status(fast, steps, *figures))


def _comparison(full: View, fast: View) -> list[str]:
    """How close and how much cheaper; nothing before both are done."""
    if full.finished is None or fast.finished is None:
        return []
    return [
        fidelity(fast.finished, full.finished),
        f"{sum(map(sum, full.masks)) / sum(map(sum, fast.masks)):.2f}× fewer calls",
        f"{full.seconds / fast.seconds:.2f}× faster",
    ]


def _show(views: Sequence[View], said: tuple[str, str]) -> tuple[Any, ...]:
    full, fast = views
    shown = (_picture(full), _player(full), said[0], _picture(fast), _player(fast), said[1])
    if full.finished is None or fast.finished is None:
        return (*shown, None, None)
    pair = full.finished.still, fast.finished.still
    return (*shown, (pixels(pair[0]), pixels(pair[1])), _difference(*pair))


def _difference(image: np.ndarray, other: np.ndarray) -> Any:
    difference, scale = amplified_difference(image, other)
    return gr.Image(pixels(difference), label=f"Difference, amplified {scale} times")


def _picture(view: View) -> Any:
    return None if view.made is None else pictures(view)[0]


def _player(view: View) -> Any:
    """For a finished sound; nothing else has one."""
    if not isinstance(view.finished, Sound):
        return gr.Audio(None, visible=False)
    return gr.Audio(temporary_file(view.finished, view.entries[0]), visible=True)
