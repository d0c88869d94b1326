"""What a benchmark makes: a small TOML file, checked key by key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.loading import DTYPES
from adaptive_diffusion.apps.schedulers import SCHEDULERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ALL_MINIATURES", "OWN_SCHEDULER", "Model", "Prompts", "Suite", "load_suite", "suites"]

ALL_MINIATURES = "miniatures"
"""As a model's name: every miniature that is a pipeline."""

OWN_SCHEDULER = "own"
"""As a scheduler's name: the one that the model comes with."""

_FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Model:
    """A miniature, a folder or a hub id."""

    name: str
    revision: str | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class Prompts:
    """Where the prompts come from: in the suite, a file beside it, or a file that the user gives.

    Attributes:
        texts: the prompts themselves.
        file: has one per line, or is a file of MS-COCO captions.
        origin: in words, what a file given with `--prompts` should hold.
    """

    texts: tuple[str, ...] = ()
    file: Path | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Suite:
    """What is made, and by which rows.

    Attributes:
        text: the file itself.
        arguments: call arguments of every sample.
        per_sample: for every further call argument, the values that samples get in turn.
        rows: families, or patterns of rows' names.
    """

    name: str
    text: str
    description: str
    models: tuple[Model, ...]
    steps: tuple[int, ...]
    schedulers: tuple[str, ...] = (OWN_SCHEDULER,)
    guidance: tuple[float | None, ...] = (None,)
    samples: int = 8
    seed: int = 0
    prompts: Prompts = field(default_factory=Prompts)
    size: tuple[int, int] | None = None
    frames: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    per_sample: Mapping[str, list[Any]] = field(default_factory=dict)
    rows: tuple[str, ...] = ("*",)


def suites() -> dict[str, Path]:
    """The suites that come with the package."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """A suite of the package by its name, or one's own by its path.

    Raises:
        ValueError: says in one line what is wrong with it.
    """
    path = suites().get(name, Path(name))
    if not path.is_file():
        raise ValueError(f"no suite {name!r}: choose from {', '.join(suites())}, or give a file")
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"suite {name}: not valid TOML: {error}") from error
    try:
        return _suite(path, text, content)
    except _SuiteError as error:
        raise ValueError(f"suite {name}: {error}") from None


class _SuiteError(Exception):
    """What is wrong, without the name of the suite."""


def _suite(path: Path, text: str, content: dict[str, Any]) -> Suite:
    _check_keys("", content, _READERS)
    for required in ("description", "models", "steps"):
        if required not in content:
            raise _SuiteError(f"{required} is missing")
    values = {key: _READERS[key](key, value) for key, value in content.items()}
    prompts = values.get("prompts", Prompts())
    if prompts.file is not None:
        values["prompts"] = Prompts(file=path.parent / prompts.file, origin=prompts.origin)
    return Suite(name=path.stem, text=text, **values)


def _check_keys(where: str, content: dict[str, Any], known: Mapping[str, Any]) -> None:
    for key in content:
        if key not in known:
            raise _SuiteError(f"unknown key {where}{key}; there are {', '.join(known)}")


def _word(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _SuiteError(f"{key} must be a text, not {value!r}")
    return value


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _SuiteError(f"{key} must be a whole number above zero, not {value!r}")
    return value


def _seed(key: str, value: Any) -> int:
    return 0 if value == 0 and not isinstance(value, bool) else _count(key, value)


def _scale(key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise _SuiteError(f"{key} must be a number, zero or more, not {value!r}")
    return float(value)


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _SuiteError(f"{key} must be a table, not {value!r}")
    return value


def _several(read: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def read_all(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise _SuiteError(f"{key} must be a list with something in it, not {value!r}")
        return tuple(read(f"each of {key}", each) for each in value)

    return read_all


def _one_of(choices: tuple[str, ...]) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        if value not in choices:
            raise _SuiteError(f"{key} must be one of {', '.join(choices)}, not {value!r}")
        return value

    return read


def _size(key: str, value: Any) -> tuple[int, int]:
    sides = _several(_count)(key, value)
    if len(sides) != 2:
        raise _SuiteError(f"{key} must be [width, height], not {value!r}")
    return sides[0], sides[1]


def _model(key: str, value: Any) -> Model:
    if isinstance(value, str):
        return Model(_word(key, value))
    readers = {"name": _word, "revision": _word, "dtype": _one_of(DTYPES)}
    entries = _table(key, value)
    _check_keys("models.", entries, readers)
    if "name" not in entries:
        raise _SuiteError("models.name is missing")
    return Model(**{name: readers[name](f"models.{name}", entries[name]) for name in entries})


def _prompt(key: str, value: Any) -> str:
    """Any text: an empty prompt leaves everything to the seed."""
    return _word(key, value) if value != "" else ""


def _prompts(key: str, value: Any) -> Prompts:
    if isinstance(value, list):
        return Prompts(texts=_several(_prompt)(key, value))
    readers = {"file": _word, "origin": _word}
    entries = _table(key, value)
    _check_keys("prompts.", entries, readers)
    if not entries:
        raise _SuiteError("prompts must be a list, or a table with a file or an origin")
    read = {name: readers[name](f"prompts.{name}", entries[name]) for name in entries}
    return Prompts(file=Path(read["file"]) if "file" in read else None, origin=read.get("origin"))


def _per_sample(key: str, value: Any) -> dict[str, list[Any]]:
    lists = _table(key, value)
    for name, values in lists.items():
        if not isinstance(values, list) or not values:
            raise _SuiteError(f"{key}.{name} must be a list of the samples' values, not {values!r}")
    return lists


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "description": _word,
    "models": _several(_model),
    "steps": _several(_count),
    "schedulers": _several(_one_of((OWN_SCHEDULER, *SCHEDULERS))),
    "guidance": _several(_scale),
    "samples": _count,
    "seed": _seed,
    "prompts": _prompts,
    "size": _size,
    "frames": _count,
    "arguments": _table,
    "per_sample": _per_sample,
    "rows": _several(_word),
}
