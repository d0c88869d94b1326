"""The results as the terminal shows them: narrow, with a fidelity on two lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from adaptive_diffusion.apps.bench.summary import (
    REDUCTIONS,
    CellSummary,
    EqualCost,
    Fidelity,
    at_default,
    equal_cost,
)

__all__ = ["shown_tables"]

_NONE = "–"
_CAPTION = "PSNR in dB to the full run: mean, and below it worst tenth and worst"


def shown_tables(cells: Sequence[CellSummary]) -> list[Table]:
    """The default policy beside the others at its cost, and the families at equal cost.

    What was not measured is left out.
    """
    return [table for table in (_at_default(cells), _at_equal_cost(cells)) if table.row_count]


def _at_default(cells: Sequence[CellSummary]) -> Table:
    table = _table("The default policy, and the others at its cost", "faster")
    for cell in cells:
        found = at_default(cell)
        if found is not None:
            row, at = found
            fewer, faster = _times(row.nfe_reduction), _times(row.speedup)
            table.add_row(escape(cell.cell.name), fewer, faster, *_fidelities(at))
    return table


def _at_equal_cost(cells: Sequence[CellSummary]) -> Table:
    table = _table("At equal cost")
    for cell in cells:
        for reduction in REDUCTIONS:
            at = equal_cost(cell, reduction)
            if at is not None:
                table.add_row(escape(cell.cell.name), _times(reduction), *_fidelities(at))
    return table


def _table(title: str, *more: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption=_CAPTION,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    for heading in ("fewer calls", *more, "ours", "paper's rule", "best other"):
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _fidelities(at: EqualCost) -> list[str]:
    best = _two_lines(at.best)
    if at.best_family is not None:
        best += f"\n{escape(at.best_family)}"
    return [_two_lines(at.ours), _two_lines(at.paper), best]


def _two_lines(fidelity: Fidelity | None) -> str:
    if fidelity is None:
        return _NONE
    return f"{fidelity.mean:.1f}\n{fidelity.tenth:.1f}, {fidelity.worst:.1f}"


def _times(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{ratio:.2f}×"
