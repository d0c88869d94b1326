"""The half-precision benchmark holds skipped calls against rounding."""

from __future__ import annotations

import json
from pathlib import Path

import half_precision


def test_rounding_and_skipped_calls_are_held_against_the_same_full_run(tmp_path: Path) -> None:
    half_precision.main(["--models", "digits", "--samples", "2", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "half-precision.json").read_text())
    rows = {row["way"]: row for row in result["rows"]}
    assert rows["float16"]["nfe"] == 50  # in full
    assert 40 < rows["float16"]["psnr_db"] < 90
    assert rows["measured plan"]["nfe"] == 25
    assert rows["faithful"]["nfe"] > rows["balanced"]["nfe"] > rows["fast"]["nfe"]
    assert rows["faithful"]["psnr_db"] > rows["fast"]["psnr_db"]


def test_a_way_that_fails_says_why() -> None:
    """DDIMPipeline converts bfloat16 to NumPy, which has no such type."""
    rows = half_precision.study(half_precision.Cell("digits"), 1)
    row = next(rows)
    assert row["way"] == "bfloat16"
    assert "BFloat16" in row["error"]
