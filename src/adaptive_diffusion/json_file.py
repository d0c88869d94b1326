"""Profiles as JSON files: written whole or not at all, and read with errors that say what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from adaptive_diffusion.errors import ProfileError

__all__ = ["read_json", "write_json"]

T = TypeVar("T")


def write_json(path: Path, content: Any) -> None:
    """Writes all of it or, on an error, none.

    Raises:
        OSError: if the file can't be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_json(path: Path, make: Callable[[Any], T]) -> T:
    """What `make` makes of the file's content.

    Raises:
        ProfileError: if there is no such file, it is not JSON, or `make` raises that.
    """
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ProfileError(
            f"profile {path} can't be read ({error.strerror}): make one with calibrate"
        ) from error
    except ValueError as error:  # not UTF-8, not JSON, or a ProfileError
        reason = str(error) if isinstance(error, ProfileError) else f"not JSON ({error})"
        raise ProfileError(f"profile {path} can't be used: {reason}") from error
