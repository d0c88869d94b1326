"""Profiles that travel with a model: one file in its folder or hub repository.

A model is measured once for all its users. The file holds several profiles: of several schedulers,
numbers of steps and guidance scales.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.json_file import read_json, write_json
from adaptive_diffusion.profiles import Profile

__all__ = ["FILE", "find_published", "load_published", "nearest", "publish", "read_profiles"]

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
    found = read_profiles(find_published(source, **hub))
    return nearest(found, pipe, steps, guidance)


def find_published(source: str | os.PathLike[str], **hub: Any) -> Path:
    """The file with the profiles of a model's folder or hub repository.

    Raises:
        ProfileError: if there is none.
    """
    if Path(source).is_dir():
        path = Path(source) / FILE
        if not path.is_file():
            raise ProfileError(f"no {FILE} in {source}: make one with calibrate and publish")
        return path
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(str(source), FILE, **hub))
    except Exception as error:  # offline, no such repository or file, not a valid id
        raise ProfileError(
            f"no {FILE} found for {str(source)!r} ({type(error).__name__}): give a model's folder "
            "or hub id that has one, or make a profile with calibrate"
        ) from error


def read_profiles(path: Path) -> list[Profile]:
    """The profiles in a file that `Profile.publish` or `Profile.save` wrote, one or more.

    Raises:
        ProfileError: if it holds something else, or none.
    """
    found = read_json(path, _one_or_more)
    if not found:
        raise ProfileError(f"{path} is without profiles: add one with Profile.publish")
    return found


def nearest(
    profiles: Sequence[Profile],
    pipe: Any = None,
    steps: int | None = None,
    guidance: float | None = None,
    noisy: bool | None = None,
) -> Profile:
    """Of several profiles the one for such a call; what is None does not count.

    Where it is known whether the solver adds noise (`noisy`), that comes first.
    """
    here = None if pipe is None else (describe_model(pipe), describe_scheduler(pipe))

    def distance(profile: Profile) -> tuple[bool, int, int, float, float]:
        pairs = zip(here or (), (profile.model, profile.scheduler), strict=False)
        return (
            noisy is not None and profile.noisy != noisy,
            sum(one != other for one, other in pairs),
            len(profile.far_from(steps, guidance)),
            abs(math.log(profile.steps[0] / steps)) if steps else 0.0,
            _guidance_gap(profile, guidance),
        )

    return min(profiles, key=distance)


def _guidance_gap(profile: Profile, guidance: float | None) -> float:
    if guidance is None or profile.guidance is None:
        return 0.0
    return abs(profile.guidance - guidance)


def _call_of(profile: Profile) -> tuple[Any, ...]:
    return profile.model, profile.scheduler, profile.steps, profile.guidance


def _profiles(content: Any) -> list[Profile]:
    try:
        entries = list(content["profiles"])
    except (KeyError, TypeError):
        raise ProfileError("it holds no profiles") from None
    return [Profile.from_json(each) for each in entries]


def _one_or_more(content: Any) -> list[Profile]:
    is_one = isinstance(content, dict) and "profiles" not in content
    return [Profile.from_json(content)] if is_one else _profiles(content)
