"""What the terminal shows: the steps as they happen, and the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.apps.bar import Bar
from adaptive_diffusion.apps.comparison import Comparison, Result
from adaptive_diffusion.measured import Measured

__all__ = [
    "StepProgress",
    "comparison_table",
    "decibels",
    "info_table",
    "plan_table",
    "rival_name",
    "similarity",
]

_BESIDE = 25  # characters beside label and timeline: the counts, and air
_FEWEST_CELLS = 10


class StepProgress(Bar):
    """A progress bar whose cells are the steps: full where computed, light where skipped."""

    def __init__(self, console: Console) -> None:
        timeline = _Timeline(console.width)
        super().__init__(
            Progress(TextColumn("{task.description}"), timeline, _Counts(), console=console)
        )

    def follow(self, label: str, steps: int) -> StepCallback:
        """Begins a line; what is returned is to be called with the mask so far, after each step."""
        task = self._progress.add_task(escape(label), total=steps, mask=[])

        def on_step(mask: list[list[bool]]) -> None:
            done = len(mask[0]) if mask else 0
            self._progress.update(task, completed=done, total=max(steps, done), mask=mask)

        return on_step


class _Timeline(ProgressColumn):
    """A cell for every step; the steps of a loop too long for the line share cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> Text:
        steps = _share_computed(task.fields["mask"])
        total = int(task.total or 1)
        cells = min(total, max(_FEWEST_CELLS, self._width - len(task.description) - _BESIDE))
        text = Text()
        for cell in range(cells):
            here = steps[cell * total // cells : max(cell + 1, (cell + 1) * total // cells)]
            text.append(*_cell(here))
        return text


class _Counts(ProgressColumn):
    """How many steps were computed and skipped, on average over the samples."""

    def render(self, task: Task) -> Text:
        shares = _share_computed(task.fields["mask"])
        computed = sum(shares)
        skipped = len(shares) - computed
        return Text(f"computed {computed:.0f} skipped {skipped:.0f}", style="progress.percentage")


def _share_computed(mask: Sequence[Sequence[bool]]) -> list[float]:
    """For every step, the share of the samples that it was computed for."""
    return [sum(step) / len(step) for step in zip(*mask, strict=True)]


def _cell(shares: Sequence[float]) -> tuple[str, str]:
    if not shares:
        return "·", "bright_black"
    computed = sum(shares) / len(shares)
    if computed == 0:
        return "░", "cyan"
    return ("█" if computed == 1 else "▒"), "cyan"


def comparison_table(comparison: Comparison) -> Table:
    """A row per sample, their mean, and the rivals' means."""
    ours = comparison.accelerated
    seconds = sum(comparison.full.seconds) / len(comparison.samples)
    timed = "denoising loop" if comparison.times_loop_alone else "whole call"
    full = sum(comparison.full.nfe) / len(comparison.samples)
    table = Table(
        caption=f"against the full run: {full:.4g} NFE, {seconds:.3g} s ({timed})",
        caption_justify="left",
        expand=False,
    )
    table.add_column("", overflow="fold")
    for heading in ("seed", "NFE", "fewer NFE", "faster", "PSNR", "SSIM"):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, sample in enumerate(comparison.samples):
        table.add_row(
            escape(sample.label),
            str(sample.seed),
            str(ours.nfe[index]),
            f"{comparison.nfe_reduction(ours, index):.2f}x",
            f"{comparison.speedup(ours, index):.2f}x",
            decibels(ours.psnr_db[index]),
            similarity(ours.ssim[index]),
        )
    table.add_section()
    table.add_row(*_summary("mean", comparison, ours), style="bold")
    if comparison.baselines:
        table.add_section()
    for result in comparison.baselines:
        table.add_row(*_summary(rival_name(result), comparison, result))
    return table


def plan_table(measured: Measured) -> Table:
    """What plans of a profile reached on the samples held out."""
    table = Table(caption="PSNR to the full run, on samples held out", caption_justify="left")
    for heading in ("NFE", "fewer NFE", "mean", "worst tenth", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in measured.plans:
        if plan.evidence is not None:
            table.add_row(
                str(plan.nfe),
                f"{plan.evidence.nfe_reduction:.2f}x",
                decibels(plan.evidence.psnr_mean),
                decibels(plan.evidence.psnr_worst_tenth),
                decibels(plan.evidence.psnr_worst),
            )
    return table


def info_table(
    versions: Mapping[str, str | None],
    device: str,
    extras: Mapping[str, Mapping[str, str | None]],
    miniatures: Mapping[str, Path],
) -> Table:
    """What runs here."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for package, version in versions.items():
        table.add_row(package, version or "not installed")
    table.add_row("device", escape(device))
    for extra, packages in extras.items():
        missing = [package for package, version in packages.items() if version is None]
        state = f"missing: {', '.join(missing)}" if missing else "installed"
        table.add_row(escape(f"[{extra}]"), state)
    table.add_row("miniatures", ", ".join(miniatures) or "none")
    return table


def decibels(value: float) -> str:
    """A PSNR to read."""
    if value == math.inf:
        return "identical"
    return "not a number" if math.isnan(value) else f"{value:.1f} dB"


def similarity(value: float) -> str:
    """An SSIM to read."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def rival_name(result: Result) -> str:
    """What a baseline is called, with the setting that gave it its number of evaluations."""
    variant = result.variant
    if variant.policy is None:
        return f"{variant.name} ({variant.steps})"
    threshold = getattr(variant.policy, "threshold", None)
    return f"{variant.name} (threshold {threshold:g})"


def _summary(name: str, comparison: Comparison, result: Result) -> list[str]:
    return [
        name,
        "",
        f"{sum(result.nfe) / len(result.nfe):.4g}",
        f"{comparison.nfe_reduction(result):.2f}x",
        f"{comparison.speedup(result):.2f}x",
        decibels(result.mean_psnr_db),
        similarity(result.mean_ssim),
    ]
