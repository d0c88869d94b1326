"""The models that are served, and a pipeline for each picture."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.api import accelerate
from adaptive_diffusion.apps.choice import Choice, Skipping, choose
from adaptive_diffusion.apps.encoding import to_bytes
from adaptive_diffusion.apps.inpainting import KeepOutside, takes_masks
from adaptive_diffusion.apps.preview import Previews
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.apps.provenance import entries
from adaptive_diffusion.apps.sampling import has_controlnet
from adaptive_diffusion.apps.server.errors import InvalidRequestError
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.sharing import (
    INPAINTING,
    REDRAWING,
    editing_pipeline,
    own_pipeline,
    own_side,
)
from adaptive_diffusion.trajectory import Report

__all__ = ["Drawn", "Model", "Picture"]

StepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""A pipeline's `callback_on_step_end`."""


@dataclass(frozen=True)
class Picture:
    """One picture to make; None leaves a choice to the model.

    Attributes:
        choice: what decides which denoiser calls are skipped; it has a policy.
        size: width and height, in pixels.
        image: what to begin with, for an edit.
        mask: white where the image is to be painted anew.
        strength: how far an edit leaves the image, up to 1.
        previews: how many pictures on the way are wanted; they change nothing.
        negative_prompt: what not to draw.
    """

    prompt: str
    seed: int
    steps: int
    choice: Choice
    guidance: float | None = None
    size: tuple[int, int] | None = None
    image: Image.Image | None = None
    mask: Image.Image | None = None
    strength: float | None = None
    previews: int = 0
    negative_prompt: str | None = None


@dataclass(frozen=True)
class Drawn:
    """A picture, and how it was made.

    Attributes:
        notes: what the user should know.
        entries: all that it takes to make it again, for its file.
    """

    image: Image.Image
    report: Report
    notes: list[str]
    entries: dict[str, str]


class Model:
    """A pipeline under a name.

    Args:
        name: what clients call it.
        pipe: makes pictures from a prompt, or from nothing.
        guidance: where a request has none; the pipeline's own by default.
        choice: what is skipped where a request says nothing about it; by the default tolerance.
        profiles: the plans of requests that give a number of calls are made with the nearest.

    Raises:
        ValueError: if it makes something else, or needs more than a prompt.
    """

    def __init__(
        self,
        name: str,
        pipe: Any,
        guidance: float | None = None,
        choice: Choice | None = None,
        profiles: Source | None = None,
    ) -> None:
        reason = _reason_against(pipe)
        if reason is not None:
            raise ValueError(f"{name} can't be served: {type(pipe).__name__} {reason}")
        self.name = name
        self.pipe = pipe
        self.choice = choice or choose()
        self.profiles = profiles
        self._guidance = guidance
        self._editors = {edit: editing_pipeline(pipe, edit) for edit in (REDRAWING, INPAINTING)}

    def check(self, picture: Picture, limits: Limits) -> None:
        """Raises `InvalidRequestError` if the model can't make it, or not within the limits."""
        pipe = self._pipe_for(picture)
        self._check_work(picture, limits)
        takes = inspect.signature(type(pipe).__call__).parameters
        if "prompt" not in takes and picture.prompt:
            raise InvalidRequestError(
                f"{self.name} takes no prompt: send an empty one", param="prompt"
            )
        if "prompt" in takes and not picture.prompt.strip():
            raise InvalidRequestError("the prompt is empty: say what to draw", param="prompt")
        for param, name, value in (
            ("size", "height", picture.size if picture.image is None else None),
            ("guidance", "guidance_scale", picture.guidance),
            ("negative_prompt", "negative_prompt", picture.negative_prompt),
            ("strength", "strength", picture.strength),
        ):
            if value is not None and name not in takes:
                raise InvalidRequestError(f"{self.name} takes no {param}: leave it out", param)
        if "strength" in takes:
            strength = picture.strength or takes["strength"].default
            if int(picture.steps * strength) < 1:
                raise InvalidRequestError(
                    f"a strength of {strength} leaves none of {picture.steps} steps: raise either",
                    "strength",
                )

    def draw(
        self,
        picture: Picture,
        on_step: StepCallback | None = None,
        on_preview: Callable[[Image.Image], None] | None = None,
    ) -> Drawn:
        """Makes the picture with a pipeline of its own.

        Args:
            picture: what to make.
            on_step: told of every step.
            on_preview: given the previews, where the pipeline has latents that can be shown.

        Raises:
            InvalidRequestError: if the pipeline refuses its arguments.
        """
        pipe = own_pipeline(self._pipe_for(picture))
        has_begun = False

        def see(mask: list[list[bool]]) -> None:
            nonlocal has_begun
            has_begun = True
            if on_step is not None:
                on_step(mask)

        callbacks: list[StepEnd] = []
        if picture.mask is not None and self._keeps_outside:
            assert picture.image is not None
            callbacks.append(KeepOutside(picture.image, picture.mask, picture.seed))
        if picture.previews and on_preview is not None:
            callbacks.append(
                Previews(picture.previews, lambda images: on_preview(_image_of(images[0])))
            )
        torch.manual_seed(picture.seed)  # for what a pipeline draws without its generator
        try:
            skipping = picture.choice.settle(pipe, picture.steps, self._guidance_of(picture))
            with accelerate(pipe, skipping.policy, on_step=see) as run:
                result = pipe(**self._arguments(pipe, picture, callbacks))
        except ValueError as error:
            if has_begun:
                raise
            raise InvalidRequestError(f"{self.name} does not take that: {error}") from error
        image = _image(result, pipe)
        written = self._entries(picture, image, run.report, pipe, skipping)
        return Drawn(image, run.report, [*skipping.notes, *run.report.notes], written)

    def _entries(
        self,
        picture: Picture,
        image: Image.Image,
        report: Report,
        pipe: Any,
        skipping: Skipping,
    ) -> dict[str, str]:
        asked = {
            "prompt": picture.prompt,
            "negative_prompt": picture.negative_prompt,
            "seed": picture.seed,
            "steps": picture.steps,
            "guidance": self._guidance_of(picture),
            "size": f"{image.width}x{image.height}",
            "strength": picture.strength,
        }
        source = {"model": self.name, **skipping.source}
        return entries(asked, report.mask[0], report.policy, pipe, source)

    def _guidance_of(self, picture: Picture) -> float | None:
        return self._guidance if picture.guidance is None else picture.guidance

    def _check_work(self, picture: Picture, limits: Limits) -> None:
        """A large picture of a small model would hold up those of all others for minutes."""
        own = own_side(self.pipe)
        if own is None or picture.size is None:
            return
        width, height = picture.size
        most = int(limits.work * own * own * limits.steps / (width * height))
        if picture.steps > most:
            advice = f"at most {most} steps are made of it" if most else "ask for a smaller one"
            raise InvalidRequestError(
                f"{width}x{height} in {picture.steps} steps is too much for {self.name}, whose own "
                f"size is {own}x{own}: {advice}",
                "size",
            )

    def _pipe_for(self, picture: Picture) -> Any:
        if picture.image is None:
            return self.pipe
        edit = REDRAWING if picture.mask is None or self._keeps_outside else INPAINTING
        editor = self._editors[edit]
        if editor is None and picture.mask is not None:
            raise InvalidRequestError(
                f"{self.name} can't paint a part of a picture anew: leave the mask out, or choose "
                "another model",
                "mask",
            )
        if editor is None:
            raise InvalidRequestError(
                f"{self.name} can't do {edit}: it makes pictures from a prompt only"
            )
        return editor

    @property
    def _keeps_outside(self) -> bool:
        """Whether masks are left to `KeepOutside`: the model's inpainting pipeline can't run it."""
        editor = self._editors[REDRAWING]
        if takes_masks(self.pipe) or editor is None or not hasattr(editor, "vae"):
            return False
        return "callback_on_step_end" in inspect.signature(type(editor).__call__).parameters

    def _arguments(
        self, pipe: Any, picture: Picture, callbacks: Sequence[StepEnd]
    ) -> dict[str, Any]:
        takes = inspect.signature(type(pipe).__call__).parameters
        width, height = picture.size or (None, None)
        wanted: dict[str, Any] = {
            "prompt": picture.prompt,
            "negative_prompt": picture.negative_prompt,
            "num_inference_steps": picture.steps,
            "generator": torch.Generator("cpu").manual_seed(picture.seed),
            "guidance_scale": self._guidance_of(picture),
            "width": width,
            "height": height,
            "image": picture.image,
            "mask_image": picture.mask,
            "strength": picture.strength,
            "output_type": "np",
            "callback_on_step_end": _one_after_the_other(callbacks) if callbacks else None,
        }
        return {
            name: value for name, value in wanted.items() if value is not None and name in takes
        }


def _one_after_the_other(callbacks: Sequence[StepEnd]) -> StepEnd:
    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        for each in callbacks:
            tensors = each(pipe, step, timestep, tensors)
        return tensors

    return callback


def _reason_against(pipe: Any) -> str | None:
    """Why pictures can't be made of a prompt alone; None if they can, as far as it can be seen."""
    call = inspect.unwrap(type(pipe).__call__)
    kinds = re.findall(r"return (\w+Output)\(", inspect.getsource(call))
    outputs = [call.__globals__[kind] for kind in kinds if kind in call.__globals__]
    makes_pictures = ["images" in getattr(each, "__annotations__", {}) for each in outputs]
    if outputs and not any(makes_pictures):
        return "makes no pictures, and pictures are all that the server gives"
    parameters = list(inspect.signature(call).parameters.values())[1:]  # without self
    others = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind is each.POSITIONAL_OR_KEYWORD
        and each.name != "prompt"
    ]
    if has_controlnet(type(pipe)):
        others.append("a control image")
    return f"needs {' and '.join(others)}, which requests don't have" if others else None


def _image(result: Any, pipe: Any) -> Image.Image:
    images = getattr(result, "images", None)
    if images is None or np.ndim(images) != 4:
        raise TypeError(f"{type(pipe).__name__} makes no pictures")
    return _image_of(images[0])


def _image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(to_bytes(np.asarray(pixels, dtype=np.float32)))
