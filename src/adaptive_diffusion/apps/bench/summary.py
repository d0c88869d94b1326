"""What the records say: a cell's rows in means, and what each family gives at equal cost.

Methods can only be compared at the same cost. A family's frontier is the best PSNR that one of its
rows has for a number of denoiser evaluations or fewer; between two neighbouring rows it is a line
over the logarithm of that number. Outside a family's rows nothing is said about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from adaptive_diffusion.apps.bench.cells import Cell
from adaptive_diffusion.apps.bench.rows import (
    FULL,
    MEASURED,
    OUR_DEFAULT,
    OUR_FAMILIES,
    OURS,
    PAPER,
    PLANNED,
)
from adaptive_diffusion.apps.bench.store import Key

__all__ = [
    "REDUCTIONS",
    "CellSummary",
    "EqualCost",
    "Fidelity",
    "RowSummary",
    "at_default",
    "equal_cost",
    "families",
    "fidelity_at",
    "frontier",
    "summarise",
    "worst_tenth",
]

REDUCTIONS = (2.0, 3.0, 4.0)
"""How many times fewer evaluations families are compared at."""

_Records = Mapping[Key, Mapping[str, Any]]


@dataclass(frozen=True)
class Fidelity:
    """PSNR over the samples: their mean, the mean of the worst tenth, and the worst."""

    mean: float
    tenth: float
    worst: float


@dataclass(frozen=True)
class RowSummary:
    """A row over all samples; None is what was not measured.

    Attributes:
        samples: how many came out.
        errors: those of the samples that did not, each only once.
        failures: how many did not come out.
        nfe: mean number of evaluations.
        nfe_reduction: the full runs' evaluations over the row's.
        speedup: the full runs' seconds over the row's, over the timed samples.
        learning: evaluations that it took to find the row's policy, on other samples.
    """

    name: str
    family: str
    samples: int
    failures: int
    errors: tuple[str, ...] = ()
    nfe: float | None = None
    nfe_reduction: float | None = None
    speedup: float | None = None
    psnr_db: Fidelity | None = None
    ssim: float | None = None
    lpips: float | None = None
    fid: float | None = None
    memory_gib: float | None = None
    learning: float | None = None


@dataclass(frozen=True)
class CellSummary:
    """A cell's rows, the full run first."""

    cell: Cell
    rows: list[RowSummary]

    @property
    def full_nfe(self) -> float | None:
        """Evaluations of the full run."""
        return next((row.nfe for row in self.rows if row.name == FULL.name), None)

    def family(self, name: str) -> list[RowSummary]:
        """The rows of a family that can be compared.

        Not those that failed for a sample, nor those that are the full run: they save nothing.
        """
        return [
            row
            for row in self.rows
            if row.family == name and row.psnr_db and not row.failures and self._saves(row)
        ]

    def _saves(self, row: RowSummary) -> bool:
        return self.full_nfe is None or (row.nfe is not None and row.nfe < self.full_nfe)


@dataclass(frozen=True)
class EqualCost:
    """One cell at one number of evaluations: ours, the paper's rule, and the best of the others.

    Attributes:
        ours: error control.
        planned: a plan for so many calls.
        measured: a plan from what was measured of the model.
        paper: the paper's rule.
        best: of all other families.
        best_family: which one that is.
    """

    cell: Cell
    nfe_reduction: float
    ours: Fidelity | None
    planned: Fidelity | None
    measured: Fidelity | None
    paper: Fidelity | None
    best: Fidelity | None
    best_family: str | None

    @property
    def gain_over_paper(self) -> float | None:
        """In dB; None where one of the two has no value."""
        return _gain(self.ours, self.paper)

    @property
    def gain_over_best(self) -> float | None:
        """In dB; None where one of the two has no value."""
        return _gain(self.ours, self.best)

    @property
    def gain_of_measured(self) -> float | None:
        """Of plans from a measurement over the best other, in dB; None likewise."""
        return _gain(self.measured, self.best)


def summarise(
    records: _Records, fid: Callable[[Sequence[Key], Sequence[Key]], float | None]
) -> list[CellSummary]:
    """The cells in the order in which they were measured.

    `fid` gives the distance between two sets of records' pictures.
    """
    cells: dict[Cell, dict[str, list[Key]]] = {}
    for key in records:
        cells.setdefault(key.cell, {}).setdefault(key.row, []).append(key)
    return [
        CellSummary(
            cell, [_row(records, keys, rows.get(FULL.name, []), fid) for keys in rows.values()]
        )
        for cell, rows in cells.items()
    ]


def _row(
    records: _Records,
    keys: list[Key],
    full_keys: list[Key],
    fid: Callable[[Sequence[Key], Sequence[Key]], float | None],
) -> RowSummary:
    errors = [records[key]["error"] for key in keys if records[key].get("error")]
    made = [key for key in keys if records[key].get("psnr_db") is not None]
    name, family = keys[0].row, keys[0].family
    if not made:
        return RowSummary(name, family, 0, len(errors), tuple(dict.fromkeys(errors)))

    def values(name: str) -> list[Any]:
        return [records[key][name] for key in made if records[key].get(name) is not None]

    decibels, nfe = values("psnr_db"), values("nfe")
    full_nfe = {key.seed: records[key].get("nfe") for key in full_keys}
    whole = [full_nfe.get(key.seed) for key in made]
    return RowSummary(
        name,
        family,
        samples=len(made),
        failures=len(errors),
        errors=tuple(dict.fromkeys(errors)),
        nfe=fmean(nfe),
        nfe_reduction=None if None in whole else sum(filter(None, whole)) / sum(nfe),
        speedup=_ratio(values("full_seconds"), values("seconds")),
        psnr_db=Fidelity(fmean(decibels), worst_tenth(decibels), min(decibels)),
        ssim=_mean(values("ssim")),
        lpips=_mean(values("lpips")),
        fid=None if family == FULL.family else fid(made, full_keys),
        memory_gib=max(values("memory_gib"), default=None),
        learning=max(values("learning"), default=None),
    )


def worst_tenth(values: Sequence[float]) -> float:
    """Mean of the lowest tenth, of one value at least."""
    return fmean(sorted(values)[: max(1, round(len(values) / 10))])


def families(cell: CellSummary) -> list[str]:
    """Names of the families that have a row to compare, in order."""
    names = dict.fromkeys(row.family for row in cell.rows)
    return [name for name in names if name != FULL.family and cell.family(name)]


def frontier(rows: Sequence[RowSummary]) -> list[tuple[float, Fidelity]]:
    """Evaluations of every row, and the best fidelity that can be had for so many or fewer.

    A row that a cheaper one surpasses keeps its place: the line to the next better row begins
    there, not before it, where there is a measurement that says otherwise.
    """
    points: list[tuple[float, Fidelity]] = []
    ordered = sorted(
        ((row.nfe, row.psnr_db) for row in rows if row.nfe is not None and row.psnr_db),
        key=lambda point: (point[0], -point[1].mean),
    )
    for nfe, fidelity in ordered:
        best = points[-1][1] if points and points[-1][1].mean >= fidelity.mean else fidelity
        points.append((nfe, best))
    return points


def fidelity_at(points: Sequence[tuple[float, Fidelity]], nfe: float) -> Fidelity | None:
    """A frontier's value at a number of evaluations; None outside of it."""
    for cost, fidelity in points:
        if math.isclose(cost, nfe):
            return fidelity
    for (low, a), (high, b) in pairwise(points):
        if low < nfe < high:
            share = math.log(nfe / low) / math.log(high / low)
            return Fidelity(
                *(
                    getattr(a, name) + share * (getattr(b, name) - getattr(a, name))
                    for name in ("mean", "tenth", "worst")
                )
            )
    return None


def at_default(cell: CellSummary) -> tuple[RowSummary, EqualCost] | None:
    """The default policy's row, and the families at its cost; None if it was not measured."""
    row = next((each for each in cell.family(OURS) if each.name == OUR_DEFAULT), None)
    if row is None or row.nfe_reduction is None:
        return None
    compared = equal_cost(cell, row.nfe_reduction)
    return None if compared is None else (row, replace(compared, ours=row.psnr_db))


def equal_cost(cell: CellSummary, nfe_reduction: float) -> EqualCost | None:
    """The families at so many times fewer evaluations; None for a cell without a full run."""
    if cell.full_nfe is None:
        return None
    nfe = cell.full_nfe / nfe_reduction
    found = {name: fidelity_at(frontier(cell.family(name)), nfe) for name in families(cell)}
    others = {
        name: fidelity
        for name, fidelity in found.items()
        if fidelity is not None and name not in (*OUR_FAMILIES, PAPER)
    }
    best = max(others, key=lambda name: others[name].mean, default=None)
    return EqualCost(
        cell.cell,
        nfe_reduction,
        ours=found.get(OURS),
        planned=found.get(PLANNED),
        measured=found.get(MEASURED),
        paper=found.get(PAPER),
        best=None if best is None else others[best],
        best_family=best,
    )


def _gain(ours: Fidelity | None, other: Fidelity | None) -> float | None:
    return None if ours is None or other is None else ours.mean - other.mean


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _ratio(whole: Sequence[float], part: Sequence[float]) -> float | None:
    return sum(whole) / sum(part) if part else None
