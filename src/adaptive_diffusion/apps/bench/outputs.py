"""Everything that is made from the records: results.csv, summary.json, table.md, plots."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from adaptive_diffusion import __version__
from adaptive_diffusion.apps.bench.fidelity import frechet_distance
from adaptive_diffusion.apps.bench.plots import save_plots
from adaptive_diffusion.apps.bench.run import Bench
from adaptive_diffusion.apps.bench.store import FeatureStore, Key
from adaptive_diffusion.apps.bench.summary import CellSummary, summarise
from adaptive_diffusion.apps.bench.table import table
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.provenance import mask_text

__all__ = ["commit", "write_outputs"]

_COLUMNS = (
    *("nfe", "psnr_db", "ssim", "lpips", "seconds", "full_seconds", "memory_gib"),
    *("learning", "error"),
)


def write_outputs(folder: Path, bench: Bench) -> list[CellSummary]:
    """Writes all files and gives the cells back."""
    records = bench.store.records
    cells = summarise(records, lambda made, full: _fid(bench.features, made, full))
    _write_csv(folder / "results.csv", records)
    about = _about(bench)
    document = {**about, "cells": [_cell(cell) for cell in cells]}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(table(*_heading(about), cells), encoding="utf-8")
    save_plots(folder, cells, records)
    return cells


def commit() -> str:
    """The commit of the project's checkout, marked if it was changed since; else the version."""
    root = Path(__file__).parents[4]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    if (root / ".git").exists():
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            return found.stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass  # no git here: the version has to do
    return __version__


def _about(bench: Bench) -> dict[str, Any]:
    suite = bench.suite
    return {
        "suite": suite.name,
        "description": suite.description,
        "suite_text": suite.text,
        "samples": suite.samples,
        "timed_samples": bench.timed_samples,
        "models": [asdict(model) for model in suite.models],
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": ", ".join(describe_device(device) for device in bench.devices),
        "versions": versions(),
        "notes": bench.notes,
    }


def _heading(about: Mapping[str, Any]) -> tuple[str, list[str]]:
    lines = [
        f"{about['description']}.",
        f"{about['samples']} samples per cell, the first {about['timed_samples']} of them timed; "
        f"{about['device']}; {about['commit']}; {about['date'][:10]}.",
    ]
    return f"Benchmark: {about['suite']}", lines + [f"Note: {note}." for note in about["notes"]]


def _cell(cell: CellSummary) -> dict[str, Any]:
    rows = [{key: value for key, value in asdict(row).items()} for row in cell.rows]
    return {**asdict(cell.cell), "rows": rows}


def _write_csv(path: Path, records: Mapping[Key, Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        keys = list(records)
        names = list(keys[0].to_dict()) if keys else []
        writer.writerow([*names, *_COLUMNS, "work"])
        for key, record in records.items():
            values = [record.get(name) for name in _COLUMNS]
            writer.writerow([*key.to_dict().values(), *values, _work(record.get("work", []))])


def _work(shares: Sequence[float]) -> str:
    """A mask such as 11010001 where steps are done or skipped; else the shares themselves."""
    if all(share in (0, 1) for share in shares):
        return mask_text([bool(share) for share in shares])
    return " ".join(f"{share:g}" for share in shares)


def _fid(features: FeatureStore, made: Sequence[Key], full: Sequence[Key]) -> float | None:
    ours, reference = features.load(made), features.load(full)
    return None if ours is None or reference is None else frechet_distance(ours, reference)
