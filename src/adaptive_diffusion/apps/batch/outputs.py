"""The folder of the pictures: every file in it is whole, and what has a picture is done.

    KEY.png              a picture; a clip is KEY.gif, a sound KEY.wav
    KEY.json             how it was made, or why it could not be
    ID.profile.json      what the pictures of a lesson taught; null if that is nothing
    NAME.manifest.jsonl  which line of the prompts' file has which key
    .unfinished/         what is being written; gone after the run

Files are written in `.unfinished`, brought to the disk, and then renamed, the record before the
picture. A run killed at any point leaves no file half-written, and no picture without its record.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from adaptive_diffusion.apps.media import SUFFIXES
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.json_file import read_json
from adaptive_diffusion.profiles import Profile

__all__ = ["OutputError", "Outputs"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


class OutputError(OSError):
    """The folder can't be written to. Nothing half-written is left in it."""


class Outputs:
    """Pictures and records by key.

    Args:
        folder: has to exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()  # the processes that write to it may stand elsewhere
        self._unfinished = self.folder / ".unfinished"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """For the time of a run: no other run writes here.

        Raises:
            OutputError: if one does, or nothing can be written here.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"another run is writing to {self.folder}: wait for its end, or name another folder"
            ) from error
        try:
            with self._explained():
                shutil.rmtree(self._unfinished, ignore_errors=True)
                self._unfinished.mkdir(exist_ok=True)
            yield
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            lock.release()

    def made(self) -> set[str]:
        """The keys of all pictures."""
        return {file.stem for file in self.folder.iterdir() if file.suffix in SUFFIXES}

    def is_made(self, key: str) -> bool:
        """Whether there is a picture of that key."""
        return any((self.folder / f"{key}{suffix}").is_file() for suffix in SUFFIXES)

    def add(self, key: str, record: str, content: bytes | None, suffix: str = ".png") -> None:
        """Writes a record (JSON) and, if it could be made, the picture's content.

        Raises:
            OutputError: if they can't be written; then neither is.
        """
        files = {f"{key}.json": record.encode("utf-8", "backslashreplace")}
        if content is not None:
            files[f"{key}{suffix}"] = content
        self._write(files)

    def add_manifest(self, name: str, text: str) -> None:
        """Writes the manifest of a prompts' file, in place of an earlier one.

        Raises:
            OutputError: if it can't be written.
        """
        self._write({f"{name}.manifest.jsonl": text.encode("utf-8")})

    def add_lesson(self, lesson: str, profile: Profile | None) -> None:
        """Writes what a lesson taught.

        Raises:
            OutputError: if it can't be written.
        """
        content = None if profile is None else profile.to_json()
        self._write({_profile_name(lesson): json.dumps(content).encode()})

    def has_lesson(self, lesson: str) -> bool:
        """Whether it is known what a lesson taught."""
        return (self.folder / _profile_name(lesson)).is_file()

    def learned(self, lesson: str) -> Profile | None:
        """What a lesson taught; None if that is nothing.

        Raises:
            ProfileError: if it has not been given, or its file holds something else.
        """
        if not self.has_lesson(lesson):
            raise ProfileError("the pictures that were to teach it could not be made")
        return read_json(
            self.folder / _profile_name(lesson),
            lambda content: None if content is None else Profile.from_json(content),
        )

    @contextmanager
    def attempt(self, name: str) -> Iterator[int]:
        """How many attempts at what is named this makes, with those whose process died in them.

        Raises:
            OutputError: if that can't be noted.
        """
        notes = self._unfinished / f"{name}.attempts"
        with self._explained(), notes.open("ab") as file:
            file.write(b".")
            number = file.tell()
        try:
            yield number
        finally:
            notes.unlink(missing_ok=True)

    def _write(self, files: Mapping[str, bytes]) -> None:
        """All contents are on the disk before the first file gets its name."""
        waiting = {self._unfinished / uuid4().hex: name for name in files}
        try:
            with self._explained():
                for path, name in waiting.items():
                    _write_through(path, files[name])
                for path, name in waiting.items():
                    os.replace(path, self.folder / name)
        finally:
            for path in waiting:
                path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "make room" if error.errno in _FULL else "see to it"
            raise OutputError(
                f"{self.folder} can't be written to ({error.strerror or error}): what was made is "
                f"kept; {advice}, then run the same command again"
            ) from error


def _profile_name(lesson: str) -> str:
    return f"{lesson}.profile.json"


def _write_through(path: Path, content: bytes) -> None:
    """Returns when the content is on the disk, not only on its way there."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
