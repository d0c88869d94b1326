"""Profiles that travel with a model: one file in its folder or hub repository.

A model is measured once for all its users. The file holds several profiles: of several schedulers,
numbers of steps and guidance scales.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.profile import Profile

__all__ = ["FILE", "load_published", "publish"]

FILE = "adaptive_diffusion.json"
"""Beside `model_index.json`."""


def publish(profile: Profile, folder: str | os.PathLike[str]) -> Path:
    """Adds a profile to the file in a model's folder, and returns the file.

    It replaces one of the same model, scheduler, steps and guidance.

    Raises:
        ProfileError: if the file that is there holds something else.
        OSError: if it can't be written.
    """
    path = Path(folder) / FILE
    others = _profiles(path) if path.exists() else []
    kept = [each for each in others if _call_of(each) != _call_of(profile)]
    content = {"profiles": [each.to_json() for each in (*kept, profile)]}
    unfinished = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def load_published(
    source: str | os.PathLike[str],
    pipe: Any = None,
    steps: int | None = None,
    guidance: float | None = None,
    **hub: Any,
) -> Profile:
    """The profile published with a model that is nearest to a call.

    Args:
        source: a model's folder, or the id of its hub repository.
        pipe: the pipeline; profiles of its model and scheduler come first.
        steps: of the call.
        guidance: its guidance scale.
        hub: for `huggingface_hub.hf_hub_download`: `revision`, `token`, …

    Raises:
        ProfileError: if there is no such file, or it holds no profile.
    """
    found = _profiles(_file(source, hub))
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
    if guidance is None or profile.measured is None or profile.measured.guidance is None:
        return 0.0
    return abs(profile.measured.guidance - guidance)


def _call_of(profile: Profile) -> tuple[Any, ...]:
    guidance = None if profile.measured is None else profile.measured.guidance
    return profile.model, profile.scheduler, profile.steps, guidance


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


def _profiles(path: Path) -> list[Profile]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = content["profiles"]
        return [Profile.from_json(each) for each in entries]
    except OSError as error:
        raise ProfileError(
            f"profile {path} can't be read ({error.strerror}): make one with calibrate"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, ProfileError) else "it holds no profiles"
        raise ProfileError(f"profile {path} can't be used: {reason}") from error
