"""All pipeline classes that diffusers exports: built here, refused by the library, or not built."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import diffusers
from diffusers.utils.import_utils import BACKENDS_MAPPING
from tiny_pipelines import ALL_PIPELINES, NOT_BUILT, REFUSED

__all__ = ["built", "exported", "not_built", "refused"]

_BASES = frozenset({"DiffusionPipeline", "ModularPipeline"})


@functools.cache
def exported() -> dict[str, Any]:
    """Every pipeline class by its name, those included whose packages are not installed."""
    classes = inspect.getmembers(diffusers, inspect.isclass)
    return {
        name: cls
        for name, cls in classes
        if name not in _BASES and (_is_pipeline(cls) or ("Pipeline" in name and _lacks(cls)))
    }


def built() -> set[str]:
    """The classes that have an entry among the tiny pipelines."""
    return {entry.kind.__name__ for entry in ALL_PIPELINES.values()}


def refused() -> dict[str, str]:
    """The classes that `enable` refuses, with a part of the reason that it gives."""
    return REFUSED


def not_built() -> dict[str, str]:
    """The classes that nobody could try here, with the reason."""
    lacking = {
        name: f"needs {' and '.join(_lacks(cls))}"
        for name, cls in exported().items()
        if _lacks(cls) and name not in REFUSED
    }
    return lacking | NOT_BUILT


def _is_pipeline(cls: type) -> bool:
    return issubclass(cls, (diffusers.DiffusionPipeline, diffusers.ModularPipeline))


def _lacks(cls: Any) -> list[str]:
    """The packages without which diffusers exports a stand-in for the class."""
    if not cls.__module__.startswith("diffusers.utils.dummy_"):
        return []
    return [backend for backend in cls._backends if not BACKENDS_MAPPING[backend][0]()]
