"""The examples run, and what they print is what the README promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["one_line", "own_loop", "plan_paths"])
def test_example_is_faster_and_close(name: str) -> None:
    """Each compares a full and an accelerated run, and leaves both behind."""
    left = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    report = left["run"].report if "run" in left else left["denoise"].report()
    assert report.speedup > 1.5
    difference = (left["fast"] - left["full"]).abs().mean()
    assert 0 < difference < 0.02
