"""How far a batch is, and how long it will take."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from adaptive_diffusion.apps.bar import Bar
from adaptive_diffusion.apps.batch.maker import Outcome

__all__ = ["BatchProgress"]

_WINDOW = 3600  # seconds that the speed is averaged over: a call may take minutes


class BatchProgress(Bar):
    """A bar over the steps of the pictures to be made: more steps, more time.

    Args:
        pictures: how many there are to be made.
        steps: how many they have in all.
    """

    def __init__(self, console: Console, pictures: int, steps: int) -> None:
        self._pictures = pictures
        self._done = self._failed = 0
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=_WINDOW,
        )
        super().__init__(progress)
        self._task = progress.add_task(self._text, total=steps)

    def advance(self, outcome: Outcome) -> None:
        """One more is made, or failed."""
        self._done += 1
        self._failed += outcome.error is not None
        self._progress.update(self._task, advance=outcome.steps, description=self._text)

    @property
    def _text(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._pictures}{failed}"
