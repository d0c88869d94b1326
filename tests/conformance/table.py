"""Writes docs/pipelines.md: what every pipeline class of diffusers allows.

    python tests/conformance/table.py [NAME ...]

examines all tiny pipelines, or those with the names given, whose rows alone are then replaced.
"""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import diffusers
import torch
from tiny_pipelines import ALL_PIPELINES, FAMILIES

from conformance import walk
from conformance.examination import Facts, examine

__all__ = ["page", "row_of", "rows", "text"]

_PATH = Path(__file__).parents[2] / "docs" / "pipelines.md"
_COLUMNS = ("pipeline", "identical", "denoiser calls", "per sample", "ControlNet", "backfill")

_INTRODUCTION = f"""\
# Pipeline classes

All pipeline classes that diffusers {diffusers.__version__} exports. Each row is a tiny pipeline
with random weights. It shows that acceleration works with this class. It does not show how close
the pictures of a trained model are. The tests in `tests/conformance` check every row.
`make pipelines` writes this page.

- **identical**: at tolerance 0 the output is identical to that of the plain pipeline.
- **denoiser calls**: calls made, of those of the full run, when every second step is to be skipped.
  More calls are made where a second network or a new branch begins.
- **per sample**: with "yes", each sample of a batch has its own plan and its own result. With
  "whole", the batch is decided as a whole. With "–", the pipeline makes one sample at a time.
- **ControlNet**: calls of the ControlNet, likewise. It is skipped where every sample is skipped.
- **backfill**: whether skipped steps are corrected later.
"""


def row_of(name: str, facts: Facts) -> str:
    """A pipeline's line in the table."""
    per_sample = {True: "yes", False: "whole", None: "–"}[facts.per_sample]
    cells = (
        _label(name),
        "yes",  # who is not does not pass the examination
        f"{facts.calls_made} of {facts.calls}",
        per_sample,
        f"{facts.side_calls_made} of {facts.side_calls}" if facts.side_calls else "–",
        "yes" if facts.backfilled else "no",
    )
    return _line(cells)


def text() -> str:
    """The page as it stands; empty if it isn't there yet."""
    return _PATH.read_text(encoding="utf-8") if _PATH.exists() else ""


@functools.cache
def rows() -> dict[str, str]:
    """The lines that the page has now, by the names of their pipelines."""
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text().splitlines()}
    return {name: lines[_label(name)] for name in ALL_PIPELINES if _label(name) in lines}


def _label(name: str) -> str:
    """What the page calls a pipeline: its class, and what is special about it."""
    kind = ALL_PIPELINES[name].kind.__name__
    special = name.removeprefix(kind).lstrip("/")
    return f"`{kind}`, {special}" if special else f"`{kind}`"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def page(lines: dict[str, str]) -> str:
    """The page with these lines in its tables, and the counts and lists of this moment."""
    counts = (
        f"{len(walk.exported())} classes: {len(walk.built())} examined "
        f"({len(lines)} pipelines), {len(walk.refused())} refused with a reason, "
        f"{len(walk.not_built())} that could not be built here."
    )
    parts = [_INTRODUCTION, counts]
    for family in FAMILIES:
        own = [lines[entry.name] for entry in family.PIPELINES if entry.name in lines]
        if own:
            ruler = _line(("---",) * len(_COLUMNS))
            parts += [f"\n## {_title(family.__doc__)}\n", _line(_COLUMNS), ruler, *own]
    for title, reasons in (("Refused", walk.refused()), ("Not built", walk.not_built())):
        parts.append(f"\n## {title}\n")
        parts += [f"- `{name}`: {reason}" for name, reason in sorted(reasons.items())]
    return "\n".join(parts) + "\n"


def _title(docstring: str | None) -> str:
    return (docstring or "").splitlines()[0].rstrip(".")


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = dict(rows()) if names else {}
    for name in names or ALL_PIPELINES:
        lines[name] = row_of(name, examine(ALL_PIPELINES[name]))
        print(lines[name])
        _PATH.write_text(page(lines), encoding="utf-8")  # what is known stays if one fails


if __name__ == "__main__":
    main(sys.argv[1:])
