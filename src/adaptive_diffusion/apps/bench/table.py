"""`table.md`: first the families at equal cost, then every cell's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adaptive_diffusion.apps.bench.rows import FULL
from adaptive_diffusion.apps.bench.summary import (
    SPEEDUPS,
    CellSummary,
    EqualCost,
    Fidelity,
    RowSummary,
    at_default,
    equal_cost,
)
from adaptive_diffusion.apps.closeness import IDENTICAL_DB

__all__ = ["default_table", "equal_cost_tables", "table"]

_NONE = "–"

_FOOT = f"""\
PSNR is against the same model's own full run with the same seed, in dB: mean (mean of the worst \
tenth, worst). Identical pictures count as {IDENTICAL_DB:.0f} dB. Values between two rows of a \
family are interpolated over the logarithm of the evaluations (NFE), and none is extrapolated: \
{_NONE}. A row that a cheaper one of its family surpasses counts as that one, and a row that saves \
nothing does not count. "Best other" is the best of all that is neither ours nor the paper's \
rule."""


def table(title: str, lines: Sequence[str], cells: Sequence[CellSummary]) -> str:
    """The whole document; `lines` say what was measured on what."""
    parts = [f"# {title}", "\n\n".join(lines)]
    if at_defaults := default_table(cells):
        parts += ["## The default policy, and the others at its cost", at_defaults]
    parts += ["## At equal cost", equal_cost_tables(cells)]
    for cell in cells:
        parts += [f"## {cell.cell.name}", _rows(cell)]
    return "\n\n".join(parts) + "\n"


def default_table(cells: Sequence[CellSummary]) -> str:
    """For every cell what the default policy does, and the others at as many evaluations.

    Empty if it was measured in none.
    """
    head = ("cell", "NFE", "fewer NFE", "faster", "ours", "paper's rule", "best other", "")
    found = [each for cell in cells if (each := at_default(cell))]
    return _markdown(head, (_at_default(*each) for each in found)) if found else ""


def _at_default(row: RowSummary, at: EqualCost) -> Sequence[str]:
    return (
        at.cell.name,
        _number(row.nfe, ".1f"),
        _number(row.speedup_nfe, ".2f", "×"),
        _number(row.speedup_wall, ".2f", "×"),
        f"**{fidelity_text(at.ours)}**",
        fidelity_text(at.paper),
        fidelity_text(at.best),
        at.best_family or _NONE,
    )


def equal_cost_tables(cells: Sequence[CellSummary]) -> str:
    """For every number of evaluations, one line per cell, and what the values mean."""
    head = ("cell", "ours", "paper's rule", "best other", "", "ours − paper", "ours − best other")
    parts = []
    for speedup in SPEEDUPS:
        compared = [each for cell in cells if (each := equal_cost(cell, speedup))]
        parts += [f"### {speedup:g}× fewer NFE", _markdown(head, map(_equal_cost, compared))]
    return "\n\n".join([*parts, _FOOT])


def _equal_cost(at: EqualCost) -> Sequence[str]:
    return (
        at.cell.name,
        f"**{fidelity_text(at.ours)}**" if at.ours else _NONE,
        fidelity_text(at.paper),
        fidelity_text(at.best),
        at.best_family or _NONE,
        _number(at.gain_over_paper, "+.1f"),
        _number(at.gain_over_best, "+.1f"),
    )


def fidelity_text(fidelity: Fidelity | None) -> str:
    """Mean (worst tenth, worst)."""
    if fidelity is None:
        return _NONE
    return f"{fidelity.mean:.1f} ({fidelity.tenth:.1f}, {fidelity.worst:.1f})"


def _rows(cell: CellSummary) -> str:
    head = (
        "row",
        "NFE",
        "fewer NFE",
        "faster",
        "PSNR (dB)",
        "SSIM",
        "LPIPS",
        "FID",
        "GiB",
        "failed",
    )
    empty = {
        index
        for index in range(2, len(head))
        if all(_row(row)[index] in (_NONE, "") for row in cell.rows)
    }
    return _markdown(
        [each for index, each in enumerate(head) if index not in empty],
        ([each for index, each in enumerate(_row(row)) if index not in empty] for row in cell.rows),
    )


def _row(row: RowSummary) -> Sequence[str]:
    total = row.samples + row.failures
    failed = f"{row.failures} of {total}: {'; '.join(row.errors)}" if row.failures else ""
    return (
        row.name,
        _number(row.nfe, ".1f"),
        _number(row.speedup_nfe, ".2f", "×"),
        _number(row.speedup_wall, ".2f", "×"),
        _NONE if row.family == FULL.family else fidelity_text(row.psnr_db),
        _number(row.ssim, ".4f"),
        _number(row.lpips, ".4f"),
        _number(row.fid, ".2f"),
        _number(row.memory_gib, ".2f"),
        failed,
    )


def _number(value: float | None, form: str, unit: str = "") -> str:
    return _NONE if value is None else f"{value:{form}}{unit}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose source can be read, too: the columns stand below each other."""
    texts = [[cell.replace("|", "/") for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    first, *others = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in texts]
    return "\n".join([first, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *others])
