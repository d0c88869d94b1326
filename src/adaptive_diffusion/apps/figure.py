"""`compare.png`: for every sample the full run, the accelerated one, and fewer steps at its cost.

Beside them are both differences from the full run, on one scale, and what was skipped. A clip is
shown by some of its frames, a sound by its spectrogram.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from adaptive_diffusion.apps.comparison import Comparison
from adaptive_diffusion.apps.display import decibels, rival_name, similarity
from adaptive_diffusion.apps.encoding import to_bytes
from adaptive_diffusion.apps.media import amplification

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_ROWS", "save_figure"]

MAX_ROWS = 24
"""Samples that the picture shows; the report has all of them."""

_INK = "#1f2933"
_QUIET = "#7b8794"
_COMPUTED = "#1d4e89"
_SKIPPED = "#d5e3f0"

_SIDE = 2.2  # inches of a picture
_LOWEST_ROW = 1.8  # what the panel's text needs
_PANEL = 4.2
_PICTURES = 5  # in a row
_GAP = 0.14
_HEAD = 0.86  # above the rows, for title and headings
_MARGIN = 0.25


def save_figure(path: Path, comparison: Comparison, title: str) -> None:
    """Draws the comparison, one row per sample (the first `MAX_ROWS` of them)."""
    rows = min(len(comparison.samples), MAX_ROWS)
    made = [_made(comparison, row) for row in range(rows)]
    scale = amplification(other - full for full, *others in made for other in others)
    stills = [_with_differences(pictures, scale) for pictures in made]
    tallest = max(full.shape[0] / full.shape[1] for full, *_ in stills)
    row_height = max(_SIDE * tallest, _LOWEST_ROW)
    width = 2 * _MARGIN + _PICTURES * (_SIDE + _GAP) + _PANEL
    height = 2 * _MARGIN + _HEAD + rows * row_height + (rows - 1) * _GAP
    figure = Figure(figsize=(width, height), dpi=_resolution(stills), facecolor="white")
    FigureCanvasAgg(figure)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        """Axes by their distances in inches from the figure's left and upper edge."""
        box = (left / width, 1 - (top + high) / height, wide / width, high / height)
        return figure.add_axes(box)

    left, upper = _MARGIN / width, 1 - _MARGIN / height
    figure.text(left, upper, title, va="top", size=10.5, weight="bold", color=_INK)
    second_line = upper - 0.23 / height
    figure.text(left, second_line, _subtitle(comparison), va="top", size=9, color=_QUIET)
    fewer = comparison.fewer.variant.steps
    headings = (
        "full",
        "accelerated",
        f"fewer steps at the same cost ({fewer})",
        f"accelerated − full, ×{scale}",
        f"fewer steps − full, ×{scale}",
    )
    for row, pictures in enumerate(stills):
        top = _MARGIN + _HEAD + row * (row_height + _GAP)
        for column, picture in enumerate(pictures):
            axes = place(_MARGIN + column * (_SIDE + _GAP), top, _SIDE, row_height)
            _show(axes, picture)
            if row == 0:
                axes.set_title(headings[column], size=9.5, color=_INK, pad=6)
        panel = place(_MARGIN + _PICTURES * (_SIDE + _GAP), top, _PANEL, row_height)
        _describe(panel, comparison, row, row_height)
        if row == 0:
            _legend(panel, row_height)
    figure.savefig(path)


def _subtitle(comparison: Comparison) -> str:
    """How close on average, and how close the rivals come with how many calls."""
    ways = [("mean PSNR", comparison.accelerated)]
    ways += [(rival_name(result), result) for result in comparison.baselines]
    return "; ".join(
        f"{name} {decibels(result.mean_psnr_db)} with {fmean(result.nfe):.4g} calls"
        for name, result in ways
    )


def _resolution(stills: Sequence[Sequence[np.ndarray]]) -> float:
    """Dots per inch: a picture gets its own pixels, at least 300 and at most 768 of them across."""
    across = max(full.shape[1] for full, *_ in stills)
    return min(max(across, 300), 768) / _SIDE


def _made(comparison: Comparison, row: int) -> list[np.ndarray]:
    """What the full run, the accelerated one and fewer steps made."""
    ways = (comparison.references, comparison.made, comparison.made_in_fewer)
    return [media[row].still for media in ways]


def _with_differences(made: Sequence[np.ndarray], scale: int) -> list[np.ndarray]:
    full, *others = made
    return [*made, *(np.abs(other - full) * scale for other in others)]


def _show(axes: Axes, picture: np.ndarray) -> None:
    pixels = to_bytes(picture)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    # big pixels stay what they are; photographs are resampled smoothly
    interpolation = "nearest" if max(pixels.shape) <= 96 else "antialiased"
    axes.imshow(pixels, interpolation=interpolation)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#cbd2d9", linewidth=0.6)


def _describe(axes: Axes, comparison: Comparison, row: int, height: float) -> None:
    """The panel beside the pictures: prompt, timeline and numbers, from top to bottom in inches."""
    result = comparison.accelerated
    mask = result.masks[row]
    axes.set(xlim=(0, _PANEL), ylim=(height, 0))
    axes.axis("off")
    left, wide = 0.15, _PANEL - 0.15
    middle = height / 2
    label = textwrap.fill(
        comparison.samples[row].label, 46, max_lines=2, placeholder=" …", break_long_words=True
    )
    axes.text(left, middle - 0.34, label, size=10.5, weight="bold", color=_INK, va="bottom")
    cell = wide / len(mask)
    for step, computed in enumerate(mask):
        colour = _COMPUTED if computed else _SKIPPED
        box = Rectangle(
            (left + step * cell, middle - 0.2), cell, 0.3, facecolor=colour, edgecolor="white"
        )
        box.set_linewidth(0.8 if len(mask) <= 120 else 0)
        axes.add_patch(box)
    nfe = f"{result.nfe[row]} of {comparison.full.nfe[row]} denoiser calls"
    fewer = f"{comparison.nfe_reduction(result, row):.2f}× fewer"
    faster = f"{comparison.speedup(result, row):.2f}× faster"
    axes.text(left, middle + 0.22, f"{nfe}: {fewer}, {faster}", size=9, color=_INK, va="top")
    closeness = f"PSNR {decibels(result.psnr_db[row])}, SSIM {similarity(result.ssim[row])}"
    axes.text(left, middle + 0.46, closeness, size=9, color=_QUIET, va="top")
    rival = comparison.fewer
    beside = f"fewer steps: PSNR {decibels(rival.psnr_db[row])} with {rival.nfe[row]} calls"
    axes.text(left, middle + 0.66, beside, size=9, color=_QUIET, va="top")


def _legend(axes: Axes, height: float) -> None:
    """What dark and light cells mean, level with the headings."""
    options: dict[str, Any] = {"size": 9.5, "color": _INK, "va": "center", "clip_on": False}
    for left, colour, text in ((0.15, _COMPUTED, "computed"), (1.15, _SKIPPED, "skipped")):
        axes.add_patch(
            Rectangle((left, -0.205), 0.14, 0.14, facecolor=colour, edgecolor="none", clip_on=False)
        )
        axes.text(left + 0.21, -0.13, text, **options)
    axes.text(_PANEL, -0.13, "steps in order →", ha="right", **(options | {"color": _QUIET}))
