"""How far a batch is, and how long it will take."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from adaptive_diffusion.apps.batch.maker import Outcome

__all__ = ["BatchProgress"]

_WINDOW = 3600  # seconds that the speed is averaged over: a call may take minutes


class BatchProgress:
    """A bar over the steps of the pictures to be made: more steps, more time.

    Args:
        pictures: how many there are to be made.
        steps: how many they have in all.
    """

    def __init__(self, console: Console, pictures: int, steps: int) -> None:
        self._pictures = pictures
        self._done = self._failed = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=_WINDOW,
        )
        self._task = self._bar.add_task(self._text, total=steps)

    def __enter__(self) -> BatchProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._bar.stop()
        else:  # an error is one line: no bar is left behind
            self._bar.live.transient = True
            self._bar.live.stop()

    def advance(self, outcome: Outcome) -> None:
        """One more is made, or failed."""
        self._done += 1
        self._failed += outcome.error is not None
        self._bar.update(self._task, advance=outcome.steps, description=self._text)

    @property
    def _text(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._pictures}{failed}"
