"""What the user typed, checked and turned into values: before any model is loaded.

The command line imports this module to show its help, so torch is imported inside the functions.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "EngineName",
    "PolicyName",
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
