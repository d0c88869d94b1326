"""The settings beside the tabs, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.choice import Choice, Skipping, choose
from adaptive_diffusion.apps.inputs import open_picture
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.sampling import Sampler, Settings, has_controlnet
from adaptive_diffusion.apps.schedulers import takes
from adaptive_diffusion.apps.sharing import editing_size
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE
from adaptive_diffusion.policies.error_controlled import QUALITIES

__all__ = ["LARGEST", "Asked", "Controls", "guidance_of"]

LARGEST = 1024
"""Pixels of an uploaded picture's longer side; larger ones are reduced."""

_OWN_SCHEDULER = "the model's own"
_DEFAULT_GUIDANCE = 5.0

_QUALITY, _TOLERANCE, _CALLS, _PROFILE = _WAYS = ("quality", "tolerance", "calls", "profile")
"""What decides which denoiser calls are skipped."""


def guidance_of(model: str) -> float:
    """A guidance scale to begin with."""
    return GUIDANCE.get(model, _DEFAULT_GUIDANCE)


@dataclass(frozen=True)
class Asked:
    """What the visitor has set.

    Attributes:
        model: its name.
        bare: whether the LoRAs are left out.
        how: what decides which calls are skipped: `quality`, `tolerance`, `nfe`, or `target_psnr`
            (None for the goal of the model's profile).
        steps: of the full run.
        scheduler: None for the model's own.
        guidance: its scale.
        negative_prompt: None for none.
        seed: of the first sample.
        control: file of the picture that a ControlNet goes by.
    """

    model: str
    bare: bool
    how: Mapping[str, Any] = field(hash=False)
    steps: int
    scheduler: str | None
    guidance: float
    negative_prompt: str | None
    seed: int
    control: str | None = None

    def plan(self, models: Models, pipe: Any) -> Skipping:
        """What the accelerated run skips; plans are made with the model's profile, if it has one.

        Raises:
            ValueError: if the profile that was asked for is missing, or none of its plans reaches
                the target.
        """
        return self._choice(models).settle(pipe, self.steps, self.guidance)

    def source(self, models: Models) -> dict[str, str]:
        """The model and what was added to it, by name."""
        source = {"model": self.model, **models.options.describe()}
        if self.bare:
            source.pop("lora", None)
        if self.control is not None and models.takes_control(self.model):
            source["control_image"] = Path(self.control).name
        return source

    def _choice(self, models: Models) -> Choice:
        if not self.how.keys() & {"nfe", "target_psnr"}:
            return choose(**self.how)
        profiles = models.profiles.of(self.model)
        if "target_psnr" in self.how:
            if profiles is None:
                raise ValueError(
                    f"{self.model} has no profile: make one with calibrate and start the page with "
                    "--profile FILE, or choose a quality"
                )
            profiles = replace(profiles, named=True)
        return choose(profiles=profiles, **self.how)

    def pipeline(self, models: Models) -> Any:
        """The model, for one run."""
        return models.pipeline(self.model, self.scheduler, self.bare)

    def editor(self, models: Models, edit: str) -> Any:
        """The model's pipeline that edits pictures, for one run."""
        return models.editor(self.model, self.scheduler, edit, self.bare)

    def sampler(self, pipe: Any, **arguments: Any) -> Sampler:
        """The pipeline with these settings, as far as it takes them."""
        call = type(pipe).__call__
        settings = Settings(
            self.steps,
            self.guidance if takes(call, "guidance_scale") else None,
            arguments={**ARGUMENTS.get(self.model, {}), **arguments},
            negative_prompt=self.negative_prompt if takes(call, "negative_prompt") else None,
            control_image=self._control_image(pipe),
        )
        return Sampler(pipe, settings)

    def _control_image(self, pipe: Any) -> Any:
        """The picture that the pipeline's ControlNet goes by, no larger than the model's own.

        None if it has no ControlNet.
        """
        if not has_controlnet(type(pipe)):
            return None
        if self.control is None:
            raise ValueError(f"{self.model} needs a control image: add one in the settings")
        picture = open_picture(Path(self.control))
        return picture.resize(editing_size(pipe, picture.size, LARGEST))


class Controls:
    """The components of the settings; built where this is called."""

    def __init__(self, models: Models) -> None:
        self._models = models
        first = models.names[0]
        traits = models.traits(first)
        compiles = "compiled in its first run, which takes minutes"
        self.model = gr.Dropdown(
            models.names,
            value=first,
            label="Model",
            info=compiles if models.options.compiles else None,
            elem_id="model",
        )
        loras = ", ".join(
            f"{Path(lora.place).name}, scale {lora.scale:g}" for lora in models.options.loras
        )
        self.lora = gr.Checkbox(
            True, label="LoRA", info=loras, visible=bool(loras), elem_id="lora", container=True
        )
        self.way = gr.Radio(self._ways(first), value=_QUALITY, label="Skip calls by", elem_id="way")
        self.quality = gr.Radio(
            list(QUALITIES), value="balanced", label="Quality", elem_id="quality"
        )
        self.tolerance = gr.Number(
            QUALITIES["balanced"],
            label="Tolerance",
            info="the error that a run of skipped steps may cause; 0 skips nothing",
            minimum=0,
            step=0.005,
            visible=False,
            elem_id="tolerance",
        )
        self.nfe = gr.Number(
            15,
            label="Number of calls",
            info="exactly so many denoiser calls; by a measured plan, if the model has a profile",
            precision=0,
            minimum=2,
            visible=False,
            elem_id="nfe",
        )
        self.target = gr.Number(
            None,
            label="Target PSNR in dB",
            info="the fewest calls that reached it when the model was measured; empty: the "
            "profile's own goal",
            minimum=0,
            visible=False,
            elem_id="target",
        )
        self.steps = gr.Slider(1, 150, 50, step=1, label="Steps of the full run", elem_id="steps")
        self.scheduler = gr.Dropdown(
            [_OWN_SCHEDULER, *traits.schedulers],
            value=_OWN_SCHEDULER,
            label="Scheduler",
            elem_id="scheduler",
        )
        self.guidance = gr.Number(
            guidance_of(first),
            label="Guidance",
            minimum=0,
            step=0.5,
            visible=traits.takes("guidance_scale"),
            elem_id="guidance",
        )
        self.negative_prompt = gr.Textbox(
            "",
            label="Negative prompt",
            placeholder="what not to draw",
            visible=traits.takes("negative_prompt"),
            elem_id="negative-prompt",
        )
        self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        self.control = gr.Image(
            type="filepath",
            label="Control image",
            sources=["upload", "clipboard"],
            height=220,
            visible=models.takes_control(first),
            elem_id="control",
        )
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.way.change(
            lambda way: [gr.update(visible=way == each) for each in _WAYS],
            self.way,
            [self.quality, self.tolerance, self.nfe, self.target],
            **quiet,
        )
        self.model.change(
            self._follow_model,
            [self.model, self.way],
            [self.way, self.scheduler, self.guidance, self.negative_prompt, self.control],
            **quiet,
        )

    @property
    def inputs(self) -> list[Any]:
        """The components whose values `read` takes."""
        return [
            self.model,
            self.lora,
            self.way,
            self.quality,
            self.tolerance,
            self.nfe,
            self.target,
            self.steps,
            self.scheduler,
            self.guidance,
            self.negative_prompt,
            self.seed,
            self.control,
        ]

    @staticmethod
    def read(
        model: str,
        with_lora: bool,
        way: str,
        quality: str,
        tolerance: float | None,
        nfe: float | None,
        target_psnr: float | None,
        steps: float,
        scheduler: str,
        guidance: float | None,
        negative_prompt: str,
        seed: float | None,
        control: str | None,
    ) -> Asked:
        """What the components' values ask for.

        Raises:
            ValueError: if one of the numbers is missing.
        """
        if tolerance is None or nfe is None or guidance is None or seed is None:
            raise ValueError("one of the numbers is empty: write it, or reload the page")
        how: dict[str, dict[str, Any]] = {
            _QUALITY: {"quality": quality},
            _TOLERANCE: {"tolerance": tolerance},
            _CALLS: {"nfe": int(nfe)},
            _PROFILE: {"target_psnr": target_psnr},
        }
        return Asked(
            model=model,
            bare=not with_lora,
            how=how[way],
            steps=int(steps),
            scheduler=None if scheduler == _OWN_SCHEDULER else scheduler,
            guidance=float(guidance),
            negative_prompt=negative_prompt.strip() or None,
            seed=int(seed),
            control=control,
        )

    def _ways(self, model: str) -> list[str]:
        """Without a profile there is nothing to choose from."""
        return list(_WAYS if self._models.profiles.may_have(model) else _WAYS[:-1])

    def _follow_model(self, model: str, way: str) -> list[Any]:
        """Offers what the model takes."""
        traits, ways = self._models.traits(model), self._ways(model)
        return [
            gr.update(choices=ways, value=way if way in ways else _QUALITY),
            gr.update(choices=[_OWN_SCHEDULER, *traits.schedulers], value=_OWN_SCHEDULER),
            gr.update(value=guidance_of(model), visible=traits.takes("guidance_scale")),
            gr.update(visible=traits.takes("negative_prompt")),
            gr.update(visible=self._models.takes_control(model)),
        ]
