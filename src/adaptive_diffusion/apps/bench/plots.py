"""The plots: speed against fidelity for all families; what ours computed, sample by sample.

One picture per model and scheduler, one panel per cell. Colours are those of Okabe and Ito, which
the colour-blind can tell apart; markers tell the families apart without any colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from adaptive_diffusion.apps.bench.rows import MEASURED, OUR_DEFAULT, OURS, PAPER, PLANNED
from adaptive_diffusion.apps.bench.store import Key
from adaptive_diffusion.apps.bench.summary import CellSummary, families, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_plots"]

_INK = "#1f2933"
_QUIET = "#7b8794"
_COMPUTED = "#1d4e89"
_SKIPPED = "#d5e3f0"

_OURS: dict[str, Any] = {"color": "#d55e00", "marker": "o", "linewidth": 3, "markersize": 7}
_PAPER: dict[str, Any] = {"color": "#000000", "marker": "s", "linewidth": 1.6, "markersize": 5}
_PROMINENT: dict[str, dict[str, Any]] = {
    OURS: _OURS,
    MEASURED: {**_OURS, "marker": "D", "linestyle": "--"},
    PLANNED: {**_OURS, "marker": "^", "linestyle": ":", "linewidth": 1.6},
    PAPER: _PAPER,
}
_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794")
_MARKERS = ("^", "v", "D", "P", "X", "<", ">", "*", "h", "d", "p")

_PANEL = (4.4, 3.3)  # inches
_LEGEND_COLUMN = 2.4
_MAX_COLUMNS = 3
_MAX_LABELS = 24  # samples whose names are written beside their masks
_LEAST_REDUCTION = 1.25
_TICKS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20)

_Records = Mapping[Key, Mapping[str, Any]]


def save_plots(folder: Path, cells: Sequence[CellSummary], records: _Records) -> list[Path]:
    """Writes the pictures into a folder `plots` and says which there are."""
    folder = folder / "plots"
    folder.mkdir(exist_ok=True)
    groups: dict[str, list[CellSummary]] = {}
    for cell in cells:
        if cell.full_nfe is not None:
            groups.setdefault(cell.cell.group, []).append(cell)
    paths = []
    for group in groups.values():
        stem = group[0].cell.file_stem
        paths.append(_save_frontiers(folder / f"{stem}-fidelity.png", group))
        plans = [(cell, plan) for cell in group if (plan := _our_plans(cell, records))]
        if plans:
            paths.append(_save_histograms(folder / f"{stem}-nfe.png", plans))
            paths.append(_save_masks(folder / f"{stem}-masks.png", plans))
    return paths


# Speed against fidelity ---------------------------------------------------------------------------


def _save_frontiers(path: Path, group: Sequence[CellSummary]) -> Path:
    styles = _styles(group)
    title = f"{group[0].cell.group}: fidelity to the full run"
    with _panels(path, len(group), title, below=_legend_height(len(group), len(styles))) as axes:
        for panel, cell in zip(axes, group, strict=True):
            for name in families(cell):
                _draw_family(panel, cell, name, styles[name])
            panel.set_title(cell.cell.setting, fontsize=10.5, color=_INK)
            _style_frontier(panel, cell)
        for panel in axes[-_columns(len(group)) :]:
            panel.set_xlabel("times fewer denoiser evaluations")
        for panel in axes[:: _columns(len(group))]:
            panel.set_ylabel("PSNR (dB)")
        _legend(axes, styles)
    return path


def _styles(group: Sequence[CellSummary]) -> dict[str, dict[str, Any]]:
    """The same for a family in every panel; ours are drawn over the others."""
    names = dict.fromkeys(name for cell in group for name in families(cell))
    lines = (line for line in ("-", "--", ":", "-.") for _ in _COLOURS)
    looks = zip(cycle(_COLOURS), cycle(_MARKERS), lines, strict=False)
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in _PROMINENT:
            styles[name] = _PROMINENT[name] | {"zorder": 5}
        else:
            colour, marker, line = next(looks)
            styles[name] = {
                **{"color": colour, "marker": marker, "linestyle": line},
                **{"linewidth": 1.3, "markersize": 5, "zorder": 3},
            }
    return styles


def _draw_family(axes: Axes, cell: CellSummary, name: str, style: Mapping[str, Any]) -> None:
    """All rows as points, and the line through those on the frontier."""
    assert cell.full_nfe is not None
    full = cell.full_nfe
    rows = [(row.nfe, row.psnr_db.mean) for row in cell.family(name) if row.nfe and row.psnr_db]
    points = {key: style[key] for key in ("color", "marker", "zorder")}
    axes.plot(
        [full / nfe for nfe, _ in rows],
        [decibels for _, decibels in rows],
        linestyle="",
        markersize=style["markersize"],
        markeredgecolor="white",
        markeredgewidth=0.6,
        **points,
    )
    line = frontier(cell.family(name))
    axes.plot(
        [full / nfe for nfe, _ in line],
        [fidelity.mean for _, fidelity in line],
        **{key: value for key, value in style.items() if key not in ("marker", "markersize")},
    )


def _style_frontier(axes: Axes, cell: CellSummary) -> None:
    """Shows what saves enough to matter: close to the full run every curve goes up to no end."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(left=_LEAST_REDUCTION * 0.97)
    shown = [
        row.psnr_db.mean
        for name in families(cell)
        for row in cell.family(name)
        if row.psnr_db and row.nfe_reduction and row.nfe_reduction >= _LEAST_REDUCTION
    ]
    if shown:
        axes.set_ylim(min(shown) - 2, max(shown) + 2)
    _style(axes)


def _legend(axes: Sequence[Axes], styles: Mapping[str, dict[str, Any]]) -> None:
    figure = axes[0].figure
    names = [*(name for name in _PROMINENT if name in styles)]
    names += [name for name in styles if name not in _PROMINENT]
    handles = [axes[0].plot([], [], **styles[name], label=name)[0] for name in names]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_legend_columns(len(axes)),
        frameon=False,
        fontsize=9.5,
    )


def _legend_columns(panels: int) -> int:
    return int(_width(panels) / _LEGEND_COLUMN)


def _legend_height(panels: int, entries: int) -> float:
    return 0.2 * -(-entries // _legend_columns(panels))


# What ours computed -------------------------------------------------------------------------------


def _our_plans(cell: CellSummary, records: _Records) -> dict[Key, list[float]]:
    """What every sample computed at the default tolerance, or the middle one that was measured."""
    rows = [row.name for row in cell.rows if row.family == OURS and row.samples]
    if not rows:
        return {}
    shown = OUR_DEFAULT if OUR_DEFAULT in rows else rows[len(rows) // 2]
    wanted = {key: record for key, record in records.items() if key.row == shown}
    return {
        key: record["work"]
        for key, record in wanted.items()
        if key.cell == cell.cell and record.get("work")
    }


_Plans = Sequence[tuple[CellSummary, dict[Key, list[float]]]]


def _save_histograms(path: Path, plans: _Plans) -> Path:
    title = f"{_whose(plans)}: denoiser evaluations per sample"
    with _panels(path, len(plans), title) as axes:
        for panel, (cell, plan) in zip(axes, plans, strict=True):
            counts = [sum(work) for work in plan.values()]
            low, high = round(min(counts)), round(max(counts))
            edges = [count - 0.5 for count in range(low, high + 2)]
            panel.hist(counts, bins=edges, color=_OURS["color"], edgecolor="white")
            mean = fmean(counts)
            panel.axvline(mean, color=_INK, linewidth=1.2, linestyle="--")
            fewer = (cell.full_nfe or 0) / mean
            panel.set_title(
                f"{cell.cell.setting}: mean {mean:.1f}, {fewer:.2f}× fewer", fontsize=10.5
            )
            panel.set_xlim(min(low, mean) - 2, max(high, mean) + 2)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(integer=True))
            _style(panel)
            panel.set(xlabel="evaluations", ylabel="samples")
    return path


def _save_masks(path: Path, plans: _Plans) -> Path:
    colours = ListedColormap([_SKIPPED, _COMPUTED])
    title = f"{_whose(plans)}: computed steps (dark) and skipped ones (light)"
    most = max(len(plan) for _, plan in plans)
    with _panels(path, len(plans), title, min(_PANEL[1], 0.6 + 0.25 * most)) as axes:
        for panel, (cell, plan) in zip(axes, plans, strict=True):
            rows = [[share > 0 for share in work] for work in plan.values()]
            panel.imshow(rows, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="none")
            panel.set_title(cell.cell.setting, fontsize=10.5, color=_INK)
            panel.set_xlabel("step")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.tick_params(colors=_QUIET, labelsize=8.5)
            _name_samples(panel, list(plan))
            for spine in panel.spines.values():
                spine.set_visible(False)
            for row in range(1, len(rows)):
                panel.axhline(row - 0.5, color="white", linewidth=0.8)
    return path


def _name_samples(axes: Axes, keys: Sequence[Key]) -> None:
    if len(keys) > _MAX_LABELS:
        axes.set_ylabel("sample")
        return
    names = [key.prompt or f"seed {key.seed}" for key in keys]
    short = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    axes.set_yticks(range(len(keys)), short, fontsize=7.5)


def _whose(plans: _Plans) -> str:
    key = next(iter(plans[0][1]))
    return f"{key.cell.group}, {key.row}"


# Panels -------------------------------------------------------------------------------------------


def _columns(panels: int) -> int:
    return min(panels, _MAX_COLUMNS)


def _width(panels: int) -> float:
    return max(_columns(panels), 1.7) * _PANEL[0]


@contextmanager
def _panels(
    path: Path, count: int, title: str, height: float = _PANEL[1], below: float = 0
) -> Iterator[list[Axes]]:
    """Axes for so many panels under a title; the picture is saved when the block is over."""
    columns = _columns(count)
    rows = -(-count // columns)
    size = (_width(count), rows * height + 0.8 + below)
    figure = Figure(figsize=size, dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    figure.suptitle(title, fontsize=12, fontweight="bold", color=_INK)
    yield axes[:count]
    figure.savefig(path)


def _style(axes: Axes) -> None:
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_QUIET, labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#cbd2d9")
