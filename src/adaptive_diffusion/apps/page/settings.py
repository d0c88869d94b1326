"""The settings beside the tabs, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.sampling import Sampler, Settings
from adaptive_diffusion.apps.schedulers import SCHEDULERS, takes
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy
from adaptive_diffusion.policies.error_controlled import QUALITIES

__all__ = ["Asked", "Controls", "guidance_of"]

_OWN_SCHEDULER = "the model's own"
_OWN_TOLERANCE = "Custom"
_DEFAULT_GUIDANCE = 5.0


def guidance_of(model: str) -> float:
    """A guidance scale to begin with."""
    return GUIDANCE.get(model, _DEFAULT_GUIDANCE)


@dataclass(frozen=True)
class Asked:
    """What the visitor has set."""

    model: str
    steps: int
    tolerance: float
    nfe: int | None
    scheduler: str | None
    guidance: float
    seed: int

    @property
    def policy(self) -> Policy:
        """How the accelerated run is to skip."""
        return ErrorControlled(self.tolerance) if self.nfe is None else Planned(self.nfe)

    def pipeline(self, models: Models) -> Any:
        """The model, for one run."""
        return models.pipeline(self.model, self.scheduler)

    def editor(self, models: Models, edit: str) -> Any:
        """The model's pipeline that edits pictures, for one run."""
        return models.editor(self.model, self.scheduler, edit)

    def sampler(self, pipe: Any, **arguments: Any) -> Sampler:
        """The pipeline with these settings, as far as it takes them."""
        guidance = self.guidance if takes(type(pipe).__call__, "guidance_scale") else None
        arguments = {**ARGUMENTS.get(self.model, {}), **arguments}
        settings = Settings(self.steps, guidance, arguments=arguments)
        return Sampler(pipe, settings)


class Controls:
    """The components of the settings; built where this is called."""

    def __init__(self, models: Models) -> None:
        first = models.names[0]
        self.model = gr.Dropdown(models.names, value=first, label="Model", elem_id="model")
        self.quality = gr.Radio(
            [*QUALITIES, _OWN_TOLERANCE], value="balanced", label="Quality", elem_id="quality"
        )
        self.tolerance = gr.Number(
            QUALITIES["balanced"],
            label="Tolerance",
            info="the error that a run of skips may bring; 0 skips nothing",
            minimum=0,
            step=0.005,
            elem_id="tolerance",
        )
        self.nfe = gr.Number(
            0,
            label="Exactly this many calls",
            info="in place of a tolerance; 0 leaves it to the tolerance",
            precision=0,
            minimum=0,
            elem_id="nfe",
        )
        self.steps = gr.Slider(1, 150, 50, step=1, label="Steps of the full run", elem_id="steps")
        self.scheduler = gr.Dropdown(
            [_OWN_SCHEDULER, *SCHEDULERS], value=_OWN_SCHEDULER, label="Scheduler"
        )
        self.guidance = gr.Number(guidance_of(first), label="Guidance", minimum=0, step=0.5)
        self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        self.quality.input(
            lambda name: QUALITIES.get(name, gr.skip()), self.quality, self.tolerance
        )
        self.tolerance.input(lambda: _OWN_TOLERANCE, None, self.quality)
        self.model.input(guidance_of, self.model, self.guidance)

    @property
    def inputs(self) -> list[Any]:
        """The components whose values `read` takes."""
        return [
            self.model,
            self.steps,
            self.tolerance,
            self.nfe,
            self.scheduler,
            self.guidance,
            self.seed,
        ]

    @staticmethod
    def read(
        model: str,
        steps: float,
        tolerance: float | None,
        nfe: float | None,
        scheduler: str,
        guidance: float | None,
        seed: float | None,
    ) -> Asked:
        """What the components' values ask for.

        Raises:
            ValueError: if one of the numbers is missing.
        """
        if tolerance is None or guidance is None or seed is None:
            raise ValueError("tolerance, guidance and seed must be numbers: one of them is empty")
        chosen = None if scheduler == _OWN_SCHEDULER else scheduler
        return Asked(
            model,
            int(steps),
            float(tolerance),
            int(nfe) if nfe else None,
            chosen,
            float(guidance),
            int(seed),
        )
