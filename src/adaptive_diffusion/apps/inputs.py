"""What the user typed, checked and turned into values: before any model is loaded.

The command line imports this module to show its help, so torch is imported inside the functions.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from adaptive_diffusion.policies import Policy
    from adaptive_diffusion.profile import Profile

__all__ = [
    "EngineName",
    "PolicyName",
    "choose_tolerance",
    "make_policy",
    "open_picture",
    "parse_size",
    "read_prompts",
    "writable_file",
    "writable_folder",
]


class PolicyName(str, Enum):
    """The policies by the names that the command line gives them."""

    ERROR_CONTROLLED = "error-controlled"
    THIRD_ORDER = "third-order"
    NONE = "none"


class EngineName(str, Enum):
    """Who does the work of a batch."""

    LOCAL = "local"
    RAY = "ray"


def make_policy(
    name: PolicyName,
    tolerance: float | None = None,
    threshold: float | None = None,
    max_skip: int | None = None,
) -> Policy | None:
    """The policy with the given settings, its own defaults for the rest; None is the full run.

    Raises `ValueError` on a setting that the policy doesn't have: it would be silently ignored.
    """
    from adaptive_diffusion.policies import ErrorControlled, ThirdOrder

    given = {"tolerance": tolerance, "threshold": threshold, "max_skip": max_skip}
    settings: dict[str, Any] = {
        setting: value for setting, value in given.items() if value is not None
    }
    kinds: dict[PolicyName, tuple[type[Policy], set[str]]] = {
        PolicyName.ERROR_CONTROLLED: (ErrorControlled, {"tolerance", "max_skip"}),
        PolicyName.THIRD_ORDER: (ThirdOrder, {"threshold", "max_skip"}),
    }
    kind, known = kinds.get(name, (None, set()))
    for setting in settings:
        if setting not in known:
            options = ", ".join(f"--{each.replace('_', '-')}" for each in sorted(known))
            raise ValueError(
                f"--{setting.replace('_', '-')} does not go with --policy {name.value}, "
                f"which takes {options or 'no settings'}"
            )
    return None if kind is None else kind(**settings)


def choose_tolerance(
    tolerance: float | None, quality: str | None, profile: Profile | None
) -> float | None:
    """The tolerance that one of the three options gives; None if none of them does.

    Raises `ValueError` if more than one does, or on a quality that there is not.
    """
    from adaptive_diffusion.policies.error_controlled import QUALITIES

    if sum(choice is not None for choice in (tolerance, quality, profile)) > 1:
        raise ValueError("give one of --tolerance, --quality and --profile, not more")
    if profile is not None:
        return profile.tolerance
    if quality is None:
        return tolerance
    if quality not in QUALITIES:
        raise ValueError(f"no quality {quality!r}: choose from {', '.join(QUALITIES)}")
    return QUALITIES[quality]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from `512` or `768x512`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip().lower())
    if match is None or not all(int(side) for side in match.groups() if side is not None):
        raise ValueError(f"--size must look like 512 or 768x512 (width x height), not {text!r}")
    width, height = match.groups()
    return int(width), int(height or width)


def open_picture(file: Path) -> Image:
    """The picture of a file, in RGB; raises `ValueError` if it can't be read."""
    from PIL import Image

    try:
        return Image.open(file).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"--control-image {file} can't be read: {error}") from error


def read_prompts(typed: Sequence[str], file: Path | None) -> list[str]:
    """The prompts from the command line, then those of the file: one per line, blank ones left out.

    Raises `ValueError` on an empty prompt, or on a file without one or that can't be read.
    """
    prompts = list(typed)
    if not all(prompt.strip() for prompt in prompts):
        raise ValueError("a prompt is empty: put some words into the quotation marks")
    if file is None:
        return prompts
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {file} can't be read: {error}") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"--prompts {file} has no prompts: write one per line")
    return prompts + found


def writable_file(file: Path, option: str = "--out") -> Path:
    """The file's path, once it is known that it can be written."""
    if file.is_dir():
        raise ValueError(f"{option} {file} is a folder: name a file in it")
    writable_folder(file.parent, option)
    return file


def writable_folder(folder: Path, option: str = "--out") -> Path:
    """The folder, made if need be, after a trial: minutes of work must not end at a closed door."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"{option} {folder} can't be written to ({reason}): name another folder"
        ) from error
    return folder
