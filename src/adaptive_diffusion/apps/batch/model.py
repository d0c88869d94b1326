"""Which model makes the pictures, known by its content before it is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.loading import check_choices, commit_of, load_pipeline, locate

__all__ = ["Model"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model, how it is to be loaded, and what tells it from all others.

    Attributes:
        name: as the user gave it.
        place: absolute folder, or hub id.
        revision: the hub's commit; None for a folder.
        fingerprint: a hash of the files of a folder, or hub id and commit.
        scheduler: a name of `SCHEDULERS`, or None for the model's own.
        device: a torch device, or None for a GPU where there is one.
        dtype: a name of `DTYPES`.
    """

    name: str
    place: str
    revision: str | None
    fingerprint: str
    scheduler: str | None
    device: str | None
    dtype: str

    @classmethod
    def choose(cls, name: str, scheduler: str | None, device: str | None, dtype: str) -> Model:
        """Finds the model and reads all of its files once, so as to know it again.

        Raises:
            ValueError: if there is no such model, scheduler or number type.
        """
        check_choices(scheduler, dtype)
        place = locate(name)
        if isinstance(place, Path):
            place = place.resolve()
            return cls(name, str(place), None, _fingerprint(place), scheduler, device, dtype)
        commit = commit_of(place)
        return cls(name, place, commit, f"{place}@{commit}", scheduler, device, dtype)

    def load(self) -> Any:
        """The pipeline.

        Raises:
            ValueError: as `load_pipeline` does.
        """
        return load_pipeline(self.place, self.scheduler, self.device, self.dtype, self.revision)


def _fingerprint(folder: Path) -> str:
    """A hash of names and contents of all files that make up the pipeline."""
    index = folder / "model_index.json"
    try:
        parts = [name for name in json.loads(index.read_bytes()) if not name.startswith("_")]
    except ValueError as error:
        raise ValueError(f"model folder {str(folder)!r}: {index.name} is no JSON") from error
    inside = [file for part in parts for file in (folder / part).rglob("*") if file.is_file()]
    total = hashlib.sha256()
    for file in sorted([index, *inside]):
        total.update(f"{file.relative_to(folder).as_posix()}\n{_digest(file)}\n".encode())
    return total.hexdigest()


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
