"""Which model makes the pictures, known by its content before it is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.loading import LoadOptions, commit_of, dtype_of, load_pipeline, locate

__all__ = ["Model", "digest"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model, how it is to be loaded, and what tells it from all others.

    Attributes:
        name: as the user gave it.
        place: absolute folder or file, or hub id.
        fingerprint: a hash of the files on this machine, or hub id and commit; with all that is
            added to the model.
        options: how it is loaded, at that revision.
    """

    name: str
    place: str
    fingerprint: str
    options: LoadOptions

    @classmethod
    def choose(cls, name: str, options: LoadOptions) -> Model:
        """Finds the model and reads all of its files once, so as to know it again.

        Raises:
            ValueError: if there is no such model, scheduler or number type.
        """
        options = replace(options, dtype=dtype_of(name, options))
        added = _added(options)
        place = locate(name)
        if isinstance(place, Path):
            place = place.resolve()
            return cls(name, str(place), _fingerprint(place) + added, options)
        commit = commit_of(place, options.revision)
        options = replace(options, revision=commit)
        return cls(name, place, f"{place}@{commit}{added}", options)

    def load(self) -> Any:
        """The pipeline.

        Raises:
            ValueError: as `load_pipeline` does.
        """
        return load_pipeline(self.place, self.options)


def _added(options: LoadOptions) -> str:
    """What is added to the weights, by its content; empty if nothing is."""
    parts = [f"variant {options.variant}"] if options.variant else []
    for lora in options.loras:
        file = Path(lora.place).expanduser()
        content = digest(file) if file.is_file() else lora.place
        parts.append(f"lora {content} {lora.scale:g}")
    if options.controlnet is not None:
        folder = Path(options.controlnet).expanduser()
        files = [file for file in sorted(folder.glob("*")) if file.is_file()]
        digests = " ".join(map(digest, files))
        at_hub = "" if files else f"@{commit_of(options.controlnet, file='config.json')}"
        parts.append(f"controlnet {digests or options.controlnet}{at_hub}")
    return "".join(f" + {part}" for part in parts)


def _fingerprint(folder: Path) -> str:
    """A hash of names and contents of all files that make up the pipeline, or of its single one."""
    if folder.is_file():
        return digest(folder)
    index = folder / "model_index.json"
    try:
        parts = [name for name in json.loads(index.read_bytes()) if not name.startswith("_")]
    except ValueError as error:
        raise ValueError(f"model folder {str(folder)!r}: {index.name} is not JSON") from error
    inside = [file for part in parts for file in (folder / part).rglob("*") if file.is_file()]
    total = hashlib.sha256()
    for file in sorted([index, *inside]):
        total.update(f"{file.relative_to(folder).as_posix()}\n{digest(file)}\n".encode())
    return total.hexdigest()


def digest(file: Path) -> str:
    """A hash of the file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
