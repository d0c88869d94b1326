"""A progress bar that leaves nothing behind when the work ends in an error."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from rich.progress import Progress

__all__ = ["Bar"]

_Bar = TypeVar("_Bar", bound="Bar")


class Bar:
    """Shown inside a `with` block; what is shown is the subclass's."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self: _Bar) -> _Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._progress.stop()
        else:  # an error is one line: no bar is left behind
            self._progress.live.transient = True
            self._progress.live.stop()
