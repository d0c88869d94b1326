"""What was measured, kept in a file from the first sample on: a run that was killed goes on.

Every line of `results.jsonl` is a JSON object. Lines about the same cell, row and sample are parts
of one record: first what the picture was like, later what its making took.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_diffusion.apps.bench.cells import Cell
from adaptive_diffusion.apps.bench.rows import Row
from adaptive_diffusion.apps.sampling import Sample

__all__ = ["FeatureStore", "Key", "Store"]


@dataclass(frozen=True)
class Key:
    """Names one record."""

    cell: Cell
    row: str
    family: str
    seed: int
    prompt: str | None

    @classmethod
    def of(cls, cell: Cell, row: Row, sample: Sample) -> Key:
        """The record of a sample made in the row's way."""
        return cls(cell, row.name, row.family, sample.seed, sample.prompt)

    def to_dict(self) -> dict[str, Any]:
        """Flat, as it stands in the file."""
        entries = asdict(self)
        return entries.pop("cell") | entries

    @classmethod
    def take_from(cls, entries: dict[str, Any]) -> Key:
        """Takes the key's entries out of a line."""
        cell = Cell(*(entries.pop(name) for name in ("model", "scheduler", "steps", "guidance")))
        names = ("row", "family", "seed", "prompt")
        return cls(cell, *(entries.pop(name) for name in names))


class Store:
    """The records of a file, which are also `self.records`."""

    def __init__(self, path: Path) -> None:
        self.records: dict[Key, dict[str, Any]] = {}
        self._path = path
        if path.is_file():
            self._read()

    def add(self, key: Key, **values: Any) -> None:
        """Adds values to a record, here and in the file."""
        line = json.dumps(key.to_dict() | values, ensure_ascii=False, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._merge(key, values)

    def has(self, key: Key, value: str) -> bool:
        """Whether a value was measured; what failed was not."""
        record = self.records.get(key, {})
        return not record.get("error") and record.get(value) is not None

    def _read(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # killed in the midst of a line
            self._path.write_bytes(whole)
        for line in whole.decode("utf-8").splitlines():
            entries = json.loads(line)
            self._merge(Key.take_from(entries), entries)

    def _merge(self, key: Key, values: dict[str, Any]) -> None:
        self.records.setdefault(key, {}).update(values)


class FeatureStore:
    """Features of pictures, in a file for each record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, key: Key, features: np.ndarray) -> None:
        """Keeps a picture's features, or a video's."""
        self._folder.mkdir(exist_ok=True)
        np.save(self._file(key), features.astype(np.float16))

    def load(self, keys: Sequence[Key]) -> np.ndarray | None:
        """Those of all records together; None if one has none."""
        files = [self._file(key) for key in keys]
        if not files or not all(file.is_file() for file in files):
            return None
        return np.concatenate([np.load(file) for file in files]).astype(np.float64)

    def _file(self, key: Key) -> Path:
        text = json.dumps(key.to_dict(), sort_keys=True)
        return self._folder / f"{hashlib.sha1(text.encode()).hexdigest()}.npy"
