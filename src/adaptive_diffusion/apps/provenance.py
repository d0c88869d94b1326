"""How a sample was made: what its file is called, and what is written into it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.version import __version__

__all__ = ["PARAMETERS", "entries", "file_stem", "how_made", "mask_text", "write_beside"]

PARAMETERS = "parameters"
"""The entry that AUTOMATIC1111's web UI writes, and that other tools read."""

_LONGEST_NAME = 40

_SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DEISMultistepScheduler": "DEIS",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""What that interface calls diffusers' schedulers; others keep their name."""


def how_made(
    sample: Sample,
    medium: Medium,
    mask: Sequence[bool],
    policy: Policy | None,
    sampler: Sampler,
    source: Mapping[str, str],
) -> dict[str, str]:
    """The entries of a sample's file: all that it takes to make it again.

    Args:
        sample: that was asked for.
        medium: what was made.
        mask: which steps called the denoiser.
        policy: None for the full run.
        sampler: with the settings.
        source: the model and what was added to it, by name.
    """
    settings = sampler.settings
    height, width = medium.frames.shape[1:3]
    asked = {
        "prompt": sample.prompt or "",
        "negative_prompt": settings.negative_prompt,
        **settings.arguments,
        **sample.arguments,
        "seed": sample.seed,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "size": None if medium.kind == "sound" else f"{width}x{height}",
        "frames": len(medium.frames) if medium.kind == "clip" else None,
    }
    return entries(asked, mask, policy, sampler.pipe, source)


def entries(
    asked: Mapping[str, object],
    mask: Sequence[bool],
    policy: Policy | None,
    pipe: Any,
    source: Mapping[str, str],
) -> dict[str, str]:
    """The same, of what was asked for by name; what is None or can't be written is left out."""
    found = {
        **asked,
        "policy": "none" if policy is None else str(policy),
        "mask": mask_text(mask),
        **source,
        "scheduler": type(pipe.scheduler).__name__,
        "solver": pipe.scheduler.config.get("algorithm_type"),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "version": f"adaptive-diffusion {__version__}",
    }
    written = {name: _written(value) for name, value in found.items()}
    known = {name: text for name, text in written.items() if text is not None}
    return {PARAMETERS: _infotext(known), **known}


def _written(value: object) -> str | None:
    """As text; None for what can't be written so."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, str | int) else None


def _infotext(entries: Mapping[str, str]) -> str:
    """The form of AUTOMATIC1111's web UI: the prompt, the negative prompt, and a line of settings.

    That a LoRA was used, and how much of it, stands in the prompt there.
    """
    loras = [each.rpartition(":") for each in entries.get("lora", "").split(", ") if each]
    tags = "".join(f" <lora:{Path(file).stem}:{scale}>" for file, _, scale in loras)
    sampler = _SAMPLERS.get(entries["scheduler"], entries["scheduler"].removesuffix("Scheduler"))
    if entries.get("solver", "").startswith("sde"):
        sampler += " SDE"
    settings = {
        "Steps": entries["steps"],
        "Sampler": sampler,
        "CFG scale": entries.get("guidance"),
        "Seed": entries["seed"],
        "Size": entries.get("size"),
        "Model": Path(entries["model"]).stem,
        "Skipping": entries["policy"],
        "Denoiser calls": str(entries["mask"].count("1")),
        "Version": entries["version"],
    }
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in settings.items() if value)
    negative = entries.get("negative_prompt")
    lines = [entries["prompt"] + tags, f"Negative prompt: {negative}" if negative else "", line]
    return "\n".join(each for each in lines if each)


def _quoted(value: str) -> str:
    """In quotation marks if a comma or a colon would end it."""
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def mask_text(mask: Sequence[bool]) -> str:
    """A mask as a string such as `11101001`: 1 where the denoiser was called."""
    return "".join("1" if computed else "0" for computed in mask)


def file_stem(sample: Sample) -> str:
    """A name from prompt and seed; the seed keeps the samples of one run apart."""
    words = re.sub(r"\W+", "-", sample.prompt or "").strip("-").lower()[:_LONGEST_NAME]
    return f"{words.rstrip('-') or 'sample'}-{sample.seed}"


def write_beside(folder: Path, stem: str, suffix: str, content: bytes) -> Path:
    """Writes a file under that name, or under the next such as `stem-2` if the name is taken.

    A file of the same content is the same file: the same command makes no second one.
    """
    number, path = 1, folder / f"{stem}{suffix}"
    while path.exists() and path.read_bytes() != content:
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    path.write_bytes(content)
    return path
