"""The files of a comparison: figure, report, and clips and sounds to watch and listen to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.comparison import Comparison
from adaptive_diffusion.apps.figure import MAX_ROWS, save_figure
from adaptive_diffusion.apps.provenance import file_stem
from adaptive_diffusion.apps.record import settings_of, to_json

__all__ = ["write_files"]


def write_files(folder: Path, comparison: Comparison, report: Mapping[str, Any]) -> list[Path]:
    """Writes them all; gives their paths, the report's last.

    Files of a comparison with other settings stay: the names then get a number, such as
    `compare-2.png`.
    """
    number = _number(folder, report)
    figure = folder / f"compare{number}.png"
    save_figure(figure, comparison, _title(report))
    beside = dict(_beside(folder, comparison, number))
    for path, content in beside.items():
        path.write_bytes(content)
    numbers = folder / f"report{number}.json"
    numbers.write_text(to_json(report), encoding="utf-8")
    return [figure, *beside, numbers]


def _number(folder: Path, report: Mapping[str, Any]) -> str:
    """Empty, or `-2` and so on: the first whose report is of the same settings, or is not there."""
    count, number = 1, ""
    while _is_of_others(folder / f"report{number}.json", report):
        count += 1
        number = f"-{count}"
    return number


def _is_of_others(file: Path, report: Mapping[str, Any]) -> bool:
    if not file.exists():
        return False
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return settings_of(found) != settings_of(json.loads(to_json(report)))
    except (ValueError, KeyError, TypeError):
        return True  # none of ours


def _title(report: Mapping[str, Any]) -> str:
    scheduler = report["scheduler"].removesuffix("Scheduler")
    return (
        f"{report['model']}, {scheduler}, {report['steps']} steps, {report['policy_text']}: "
        f"{report['nfe_reduction']:.2f}× fewer calls, {report['speedup']:.2f}× faster"
    )


def _beside(folder: Path, comparison: Comparison, number: str) -> Iterator[tuple[Path, bytes]]:
    """What a figure can't show, of the samples that it shows."""
    shown = zip(comparison.samples, comparison.made, comparison.references, strict=True)
    for sample, made, full in list(shown)[:MAX_ROWS]:
        for suffix, content in made.beside(full).items():
            yield folder / f"{file_stem(sample)}{number}{suffix}", content
