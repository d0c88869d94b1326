"""What is being measured, and how long it will take."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from adaptive_diffusion.apps.bar import Bar

__all__ = ["BenchProgress"]

_WINDOW = 3600  # seconds that the speed is averaged over: a sample's rows differ a lot


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} seconds"


class BenchProgress(Bar):
    """A bar over the expected denoiser evaluations.

    How much a model has to do is known when it is loaded; until then it counts as much as those
    before it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            speed_estimate_period=_WINDOW,
        )
        super().__init__(progress)
        self._task = progress.add_task("loading", total=None)
        self._loaded: list[float] = []
        self._is_estimated = False

    def expect(self, work: float, models_left: int) -> None:
        """What the model just loaded has to do, and how many come after it."""
        self._loaded.append(work)
        mean = sum(self._loaded) / len(self._loaded)
        self._progress.update(self._task, total=sum(self._loaded) + models_left * mean)

    def estimate(self, seconds: float) -> None:
        """Says once how long it will take, from the time of one denoiser evaluation."""
        task = self._progress.tasks[self._task]
        left = (task.total or 0) - task.completed
        if not self._is_estimated:
            self._is_estimated = True
            self.console.print(
                f"about {_duration(left * seconds)} for {left:,.0f} denoiser evaluations; "
                "interrupted, the same command resumes",
                highlight=False,
            )

    def show(self, text: str) -> None:
        """What is being done."""
        self._progress.update(self._task, description=escape(text))

    def advance(self, work: float) -> None:
        """Some of what was expected is done, or had been done before."""
        self._progress.advance(self._task, work)
