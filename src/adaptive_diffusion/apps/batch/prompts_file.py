"""Reads PROMPTS.jsonl: a JSON object per line, each of them a picture to be made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.batch.jobs import Job
from adaptive_diffusion.apps.choice import Choice
from adaptive_diffusion.apps.inputs import open_picture

__all__ = ["Defaults", "Line", "read_lines"]

_MAX_SEED = 2**63 - 1  # what torch.Generator takes
_EXAMPLE = '{"prompt": "a red apple"}'
_ALL_KEYS = (
    *("prompt", "negative_prompt", "seed", "steps", "guidance", "width", "height"),
    *("tolerance", "nfe", "control_image", "id"),
)


@dataclass(frozen=True)
class Defaults:
    """What lines that don't say otherwise get.

    Attributes:
        choose: what is skipped, by a line's own tolerance and number of calls, each or None.
    """

    seed: int
    steps: int
    guidance: float | None
    size: tuple[int, int] | None
    choose: Callable[[float | None, int | None], Choice]
    frames: int | None = None
    negative_prompt: str | None = None
    control_image: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of the file.

    Attributes:
        number: from 1.
        id: what the user calls it; decides nothing.
    """

    number: int
    id: str | int | None
    job: Job


def read_lines(file: Path, defaults: Defaults) -> list[Line]:
    """The lines of a file; blank ones are left out.

    Raises:
        ValueError: on the first line that is no JSON object of known keys and possible values, with
            its number; on a file that has no lines or can't be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} can't be read: {error.strerror or error}") from error
    lines = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                lines.append(_line(number, _parse(line), defaults))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
    if not lines:
        raise ValueError(f'{file} has no prompts: write lines such as {{"prompt": "a red apple"}}')
    return lines


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
        raise ValueError(f"not JSON ({reason}): write {_EXAMPLE}") from error
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object: write {_EXAMPLE}")
    for key in found:
        if key not in _ALL_KEYS:
            raise ValueError(f"unknown key {key!r}: choose from {', '.join(_ALL_KEYS)}")
    return {key: value for key, value in found.items() if value is not None}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is given twice: {', '.join(key for key, _ in pairs)}")
    return found


def _line(number: int, given: dict[str, Any], defaults: Defaults) -> Line:
    name = given.get("id")
    if not isinstance(name, str | int | None) or isinstance(name, bool):
        raise ValueError(f"id must be a text or a whole number, not {name!r}")
    guidance = _number(given, "guidance")
    nfe = _whole(given, "nfe", range(2, _MAX_SEED), 0) if "nfe" in given else None
    not_to_draw = _text(given, "negative_prompt")
    job = Job(
        prompt=_text(given, "prompt"),
        negative_prompt=defaults.negative_prompt if not_to_draw is None else not_to_draw,
        seed=_whole(given, "seed", range(_MAX_SEED + 1), defaults.seed),
        steps=_whole(given, "steps", range(1, _MAX_SEED), defaults.steps),
        guidance=defaults.guidance if guidance is None else guidance,
        size=_size(given, defaults.size),
        frames=defaults.frames,
        control_image=_picture(given) or defaults.control_image,
        choice=defaults.choose(_number(given, "tolerance"), nfe),
    )
    return Line(number, _text(given, "id") if isinstance(name, str) else name, job)


def _text(given: dict[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a text, not {value!r}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{key} has half of a surrogate pair, which is no character")
    return value


def _picture(given: dict[str, Any]) -> str | None:
    """The name of a file that can be opened as a picture."""
    name = _text(given, "control_image")
    if name is not None:
        open_picture(Path(name))
    return name


def _number(given: dict[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0 <= value < math.inf:
        raise ValueError(f"{key} must be a finite number from 0, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{key} is too large") from None


def _whole(given: dict[str, Any], key: str, allowed: range, default: int) -> int:
    value = given.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        shown = "2^63" if allowed[-1] > 2**62 else allowed[-1]
        raise ValueError(f"{key} must be a whole number from {allowed[0]} below {shown}")
    return value


def _size(given: dict[str, Any], default: tuple[int, int] | None) -> tuple[int, int] | None:
    if ("width" in given) != ("height" in given):
        raise ValueError("give width and height, or neither")
    if "width" not in given:
        return default
    sides = range(1, _MAX_SEED)
    return _whole(given, "width", sides, 0), _whole(given, "height", sides, 0)
