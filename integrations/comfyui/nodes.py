"""The nodes: one that accelerates a model, and one that shows what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from adaptive_diffusion import Profile
from adaptive_diffusion.policies.error_controlled import QUALITIES
from adaptive_diffusion.published import find_published, read_profiles

from .acceleration import KEY, Acceleration, refuse_others
from .settings import Settings

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

_CUSTOM = "custom"
_CELL = (32, 12)  # height and width of a call in the timeline, in pixels
_MADE = (0.13, 0.44, 0.71)
_SKIPPED = (0.87, 0.92, 0.97)


class AdaptiveDiffusion:
    """Model in, model out: its samplers skip the calls whose answer can be predicted."""

    CATEGORY = "model_patches"
    DESCRIPTION = (
        "Skips the model calls whose answer can be predicted, and corrects the picture once the "
        "next answer is known. Works with every sampler that is linear in the model's answers."
    )
    FUNCTION = "accelerate"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  the name is the interface's
        return {
            "required": {
                "model": ("MODEL",),
                "quality": (
                    [*QUALITIES, _CUSTOM],
                    {
                        "default": "balanced",
                        "tooltip": "How close the picture stays to that of the full run. "
                        "custom: by the tolerance below.",
                    },
                ),
            },
            "optional": {
                "tolerance": (
                    "FLOAT",
                    {
                        "default": QUALITIES["balanced"],
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "With quality custom: the error that one run of skips may "
                        "bring. 0 skips nothing.",
                    },
                ),
                "calls": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 1000,
                        "tooltip": "Make exactly so many model calls; 0 lets the profile or the "
                        "quality decide.",
                    },
                ),
                "start_percent": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Nothing is skipped before this share of the run.",
                    },
                ),
                "end_percent": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Nothing is skipped after this share of the run.",
                    },
                ),
                "backfill": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Correct skipped calls once the next answer is known.",
                    },
                ),
                "profile": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "What `adaptive-diffusion calibrate` found for this model: a "
                        "file, or a folder with adaptive_diffusion.json.",
                    },
                ),
            },
        }

    def accelerate(
        self,
        model: Any,
        quality: str,
        tolerance: float = QUALITIES["balanced"],
        calls: int = 0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        backfill: bool = True,
        profile: str = "",
    ) -> tuple[Any]:
        """A clone of the model with the hooks of an acceleration."""
        if not hasattr(model, "add_wrapper_with_key") or not hasattr(model, "set_attachments"):
            raise RuntimeError(
                "Adaptive Diffusion needs core version 0.3.52 or newer: this one has no wrappers "
                "around sampling. Update it, or take the node out"
            )
        if start_percent > end_percent:
            raise ValueError(
                f"start_percent ({start_percent}) is behind end_percent ({end_percent}): nothing "
                "could be skipped"
            )
        chosen = tolerance if quality == _CUSTOM else QUALITIES[quality]
        model = model.clone()
        refuse_others(model.model_options)
        settings = Settings(
            chosen, calls, start_percent, end_percent, backfill, _profiles_at(profile.strip())
        )
        Acceleration(settings).attach(model)
        return (model,)


class AdaptiveDiffusionReport:
    """What the last run with a model did, as text and as a picture."""

    CATEGORY = "model_patches"
    DESCRIPTION = "Shows which model calls of the last run were made and which were skipped."
    FUNCTION = "show"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING", "IMAGE", "LATENT")
    RETURN_NAMES = ("text", "timeline", "latent")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  the name is the interface's
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model that Adaptive Diffusion gave."}),
                "latent": ("LATENT", {"tooltip": "What the sampler made; passed on."}),
            }
        }

    def show(self, model: Any, latent: Any) -> dict[str, Any]:
        """The report of the model's last run; the latent only says that it is over."""
        attached = model.get_attachment(KEY)
        if attached is None:
            raise ValueError(
                "Adaptive Diffusion Report: this model has no Adaptive Diffusion node before it"
            )
        if attached.report is None:
            raise ValueError(
                "Adaptive Diffusion Report: nothing was sampled with this model yet; give it the "
                "latent of the sampler that used it"
            )
        text = str(attached.report)
        return {"ui": {"text": [text]}, "result": (text, timeline(attached.report), latent)}


def _profiles_at(place: str) -> list[Profile]:
    """Those in a file, or in a model's folder."""
    if not place:
        return []
    path = Path(place).expanduser()
    return read_profiles(find_published(path) if path.is_dir() else path)


def timeline(report: Any) -> torch.Tensor:
    """The calls from left to right, blue where they were made: `(1, height, width, 3)`, 0 to 1."""
    calls = torch.tensor(report.mask or [[False]])
    cells = torch.where(calls[:, :, None], torch.tensor(_MADE), torch.tensor(_SKIPPED))
    picture = torch.ones(len(cells) * _CELL[0], cells.shape[1] * _CELL[1], 3)
    picture[:] = cells.repeat_interleave(_CELL[0], 0).repeat_interleave(_CELL[1], 1)
    picture[:, :: _CELL[1]] = 1.0
    return picture[None]


NODE_CLASS_MAPPINGS = {
    "AdaptiveDiffusion": AdaptiveDiffusion,
    "AdaptiveDiffusionReport": AdaptiveDiffusionReport,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "AdaptiveDiffusion": "Adaptive Diffusion",
    "AdaptiveDiffusionReport": "Adaptive Diffusion Report",
}
