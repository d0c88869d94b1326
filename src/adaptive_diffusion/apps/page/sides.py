"""Two runs side by side: the full one and the accelerated one, and how they differ."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.media import AMPLIFICATION, Sound
from adaptive_diffusion.apps.page.drawing import (
    amplified_difference,
    fidelity,
    pixels,
    status,
    temporary_file,
)
from adaptive_diffusion.apps.page.race import Run, View, race
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.policies import Policy

__all__ = ["SHOWN", "Sides"]

SHOWN: dict[str, Any] = {"interactive": False, "buttons": ["download", "fullscreen"]}
"""How a component is made that only shows something."""


_HEARD: dict[str, Any] = {"interactive": False, "show_label": False}


class Sides:
    """The components that show a pair of pictures, or of sounds with their spectrograms.

    Built where this is called.
    """

    def __init__(self, name: str) -> None:
        with gr.Row():
            with gr.Column(min_width=160):
                self.full = gr.Image(label="Full run", elem_id=f"{name}-full", **SHOWN)
                self.full_sound = gr.Audio(visible=False, elem_id=f"{name}-full-sound", **_HEARD)
                self.full_status = gr.HTML(elem_id=f"{name}-full-status")
            with gr.Column(min_width=160):
                self.fast = gr.Image(label="Accelerated", elem_id=f"{name}-fast", **SHOWN)
                self.fast_sound = gr.Audio(visible=False, elem_id=f"{name}-fast-sound", **_HEARD)
                self.fast_status = gr.HTML(elem_id=f"{name}-fast-status")
        with gr.Row():
            self.slider = gr.ImageSlider(
                label="Full | accelerated", elem_id=f"{name}-slider", min_width=160, **SHOWN
            )
            self.difference = gr.Image(
                label=f"Difference, amplified {AMPLIFICATION} times",
                elem_id=f"{name}-difference",
                min_width=160,
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
        policy: Policy,
        cancelled: threading.Event,
    ) -> Iterator[tuple[Any, ...]]:
        """Runs in full and accelerated; gives what the components show, again and again."""
        steps = samplers[0].settings.steps
        runs = [Run(samplers[0], samples, None), Run(samplers[1], samples, policy)]
        for views in race(runs, cancelled):
            yield self._show(views, steps)

    def _show(self, views: Sequence[View], steps: int) -> tuple[Any, ...]:
        full, fast = views
        steps = max(steps if not view.done else len(view.masks[0]) for view in views)
        if not (full.done and fast.done):
            return (*_side(full, steps), *_side(fast, steps), None, None)
        assert full.made is not None
        assert fast.made is not None
        figures = [
            fidelity(fast.made[0], full.made[0]),
            f"{_ratio(full, fast):.2f}× fewer calls",
            f"{full.seconds / fast.seconds:.2f}× faster",
        ]
        stills = fast.made[0].still, full.made[0].still
        pair = pixels(stills[1]), pixels(stills[0])
        difference = amplified_difference(*stills)
        return (*_side(full, steps), *_side(fast, steps, *figures), pair, difference)


def _side(view: View, steps: int, *figures: str) -> tuple[Any, Any, str]:
    picture = None if view.made is None else pixels(view.made[0].still)
    return picture, _player(view), status(view, steps, *figures)


def _player(view: View) -> Any:
    """For a finished sound; nothing else has one."""
    made = view.made[0] if view.done and view.made else None
    if not isinstance(made, Sound):
        return gr.Audio(None, visible=False)
    return gr.Audio(temporary_file(made), visible=True)


def _ratio(full: View, fast: View) -> float:
    return sum(map(sum, full.masks)) / sum(map(sum, fast.masks))
