"""Prompt files: one prompt per line, perhaps with a picture to begin with, or MS-COCO captions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.bench.suite import Suite

__all__ = ["Prompt", "prompts_for"]


@dataclass(frozen=True)
class Prompt:
    """What to draw, and the picture that a video begins with."""

    text: str
    picture: Path | None = None


def prompts_for(suite: Suite, given: Path | None) -> list[Prompt]:
    """The suite's prompts, or those of the file that the user gave instead; none in neither.

    Raises:
        ValueError: if the suite needs a file, or the file can't be read.
    """
    if given is not None:
        return _read(given)
    if suite.prompts.file is not None:
        return _read(suite.prompts.file)
    if suite.prompts.origin is not None:
        raise ValueError(f"suite {suite.name} needs --prompts FILE: {suite.prompts.origin}")
    return [Prompt(text) for text in suite.prompts.texts]


def _read(file: Path) -> list[Prompt]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = _captions(text) if file.suffix == ".json" else _lines(text, file.parent)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"prompts file {file} can't be read: {error!r}") from error
    if not found:
        raise ValueError(f"prompts file {file} has no prompts")
    return found


def _lines(text: str, folder: Path) -> list[Prompt]:
    """One prompt per line; after a tab, the file of a picture, seen from the prompts' folder."""
    prompts = []
    for line in filter(str.strip, text.splitlines()):
        words, _, picture = line.partition("\t")
        prompts.append(Prompt(words.strip(), folder / picture.strip() if picture.strip() else None))
    return prompts


def _captions(text: str) -> list[Prompt]:
    """MS-COCO: of every image, in order of their ids, the caption with the lowest id."""
    first: dict[int, dict[str, Any]] = {}
    for caption in json.loads(text)["annotations"]:
        present = first.setdefault(caption["image_id"], caption)
        if caption["id"] < present["id"]:
            first[caption["image_id"]] = caption
    return [Prompt(" ".join(first[image]["caption"].split())) for image in sorted(first)]
