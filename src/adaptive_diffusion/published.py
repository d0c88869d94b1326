"""Profiles that travel with a model: one file in its folder or hub repository.

A model is measured once for all its users. The file holds several profiles: of several schedulers,
numbers of steps and guidance scales.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.json_file import read_json, write_json
from adaptive_diffusion.profiles import Profile

__all__ = ["FILE", "load_published", "publish"]

FILE = "adaptive_diffusion.json"
"""Beside `model_index.json`."""


def publish(profile: Profile, folder: str | os.PathLike[str]) -> Path:
    """`Profile.publish`."""
    path = Path(folder) / FILE
    others = read_json(path, _profiles) if path.exists() else []
    kept = [each for each in others if _call_of(each) != _call_of(profile)]
    write_json(path, {"profiles": [each.to_json() for each in (*kept, profile)]})
    return path


def load_published(
    source: str | os.PathLike[str],
    pipe: Any = None,
    steps: int | None = None,
    guidance: float | None = None,
    **hub: Any,
) -> Profile:
    """`Profile.from_pretrained`."""
    found = read_json(_file(source, hub), _profiles)
    if not found:
        raise ProfileError(f"{source} has a {FILE} without profiles: add one with Profile.publish")

    def distance(profile: Profile) -> tuple[int, float, float]:
        others = 0
        if pipe is not None:
            others += profile.model != describe_model(pipe)
            others += profile.scheduler != describe_scheduler(pipe)
        return (
            others,
            abs(math.log(profile.steps[0] / steps)) if steps else 0.0,
            _guidance_gap(profile, guidance),
        )

    return min(found, key=distance)


def _guidance_gap(profile: Profile, guidance: float | None) -> float:
    if guidance is None or profile.guidance is None:
        return 0.0
    return abs(profile.guidance - guidance)


def _call_of(profile: Profile) -> tuple[Any, ...]:
    return profile.model, profile.scheduler, profile.steps, profile.guidance


def _file(source: str | os.PathLike[str], hub: dict[str, Any]) -> Path:
    if Path(source).is_dir():
        return Path(source) / FILE
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(str(source), FILE, **hub))
    except Exception as error:  # offline, no such repository or file, not a valid id
        raise ProfileError(
            f"no {FILE} found for {str(source)!r} ({type(error).__name__}): give a model's folder "
            "or hub id that has one, or make a profile with calibrate"
        ) from error


def _profiles(content: Any) -> list[Profile]:
    try:
        entries = list(content["profiles"])
    except (KeyError, TypeError):
        raise ProfileError("it holds no profiles") from None
    return [Profile.from_json(each) for each in entries]
