"""`table.md`: first the families at equal cost, then every cell's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adaptive_diffusion.apps.bench.rows import FULL, MEASURED, PLANNED
from adaptive_diffusion.apps.bench.summary import (
    REDUCTIONS,
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

_LEARNING = f"""\
"NFE before" is about how many evaluations it took to find a row's plan or mask, on samples that \
are not in the table. The rows of "{MEASURED}" share one measurement, which each of them counts."""
_FOOT = f"""\
PSNR is against the same model's own full run with the same seed, in dB: mean (mean of the worst \
tenth, worst). Identical pictures count as {IDENTICAL_DB:.0f} dB. Values between two rows of a \
family are interpolated over the logarithm of the evaluations (NFE), and none is extrapolated: \
{_NONE}. A row that a cheaper one of its family surpasses counts as that one, and a row that saves \
nothing does not count. "Best other" is the best of all that is neither ours nor the paper's \
rule. Columns "measured" and "nfe" are the families "{MEASURED}" and "{PLANNED}", and "ours" is \
error control."""


def table(title: str, lines: Sequence[str], cells: Sequence[CellSummary]) -> str:
    """The whole document; `lines` say what was measured on what."""
    if any(row.learning for cell in cells for row in cell.rows):
        lines = [*lines, _LEARNING]
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
        _number(row.nfe_reduction, ".2f", "×"),
        _number(row.speedup, ".2f", "×"),
        f"**{fidelity_text(at.ours)}**",
        fidelity_text(at.paper),
        fidelity_text(at.best),
        at.best_family or _NONE,
    )


def equal_cost_tables(cells: Sequence[CellSummary]) -> str:
    """For every number of evaluations, one line per cell, and what the values mean."""
    head = (
        *("cell", "measured", "nfe", "ours", "paper's rule", "best other", ""),
        *("measured − best other", "ours − paper", "ours − best other"),
    )
    optional = {head.index(name) for name in ("measured", "nfe", "measured − best other")}
    parts = []
    for reduction in REDUCTIONS:
        compared = [each for cell in cells if (each := equal_cost(cell, reduction))]
        lines = list(map(_equal_cost, compared))
        parts += [
            f"### {reduction:g}× fewer NFE",
            _markdown(*_without_empty(head, lines, optional)),
        ]
    return "\n\n".join([*parts, _FOOT])


def _equal_cost(at: EqualCost) -> Sequence[str]:
    return (
        at.cell.name,
        _bold(at.measured),
        fidelity_text(at.planned),
        _bold(at.ours),
        fidelity_text(at.paper),
        fidelity_text(at.best),
        at.best_family or _NONE,
        _number(at.gain_of_measured, "+.1f"),
        _number(at.gain_over_paper, "+.1f"),
        _number(at.gain_over_best, "+.1f"),
    )


def _bold(fidelity: Fidelity | None) -> str:
    return f"**{fidelity_text(fidelity)}**" if fidelity else _NONE


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
        "NFE before",
        "failed",
    )
    lines = list(map(_row, cell.rows))
    return _markdown(*_without_empty(head, lines, set(range(2, len(head)))))


def _row(row: RowSummary) -> Sequence[str]:
    total = row.samples + row.failures
    failed = f"{row.failures} of {total}: {'; '.join(row.errors)}" if row.failures else ""
    return (
        row.name,
        _number(row.nfe, ".1f"),
        _number(row.nfe_reduction, ".2f", "×"),
        _number(row.speedup, ".2f", "×"),
        _NONE if row.family == FULL.family else fidelity_text(row.psnr_db),
        _number(row.ssim, ".4f"),
        _number(row.lpips, ".4f"),
        _number(row.fid, ".2f"),
        _number(row.memory_gib, ".2f"),
        _number(row.learning, ",.0f"),
        failed,
    )


def _number(value: float | None, form: str, unit: str = "") -> str:
    return _NONE if value is None else f"{value:{form}}{unit}"


def _without_empty(
    head: Sequence[str], lines: Sequence[Sequence[str]], optional: set[int]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Leaves out the optional columns that no line has anything in."""
    kept = [
        index
        for index in range(len(head))
        if index not in optional or any(line[index] not in (_NONE, "") for line in lines)
    ]
    return [head[index] for index in kept], [[line[index] for index in kept] for line in lines]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose source can be read, too: the columns stand below each other."""
    texts = [[cell.replace("|", "/") for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    first, *others = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in texts]
    return "\n".join([first, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *others])
