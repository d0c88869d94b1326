"""The overhead benchmark states times, and beside them operators and reads."""

from __future__ import annotations

import json
from pathlib import Path

import overhead


def test_what_a_step_adds_is_stated_in_times_operators_and_reads(tmp_path: Path) -> None:
    words = ["--steps", "2", "--repeats", "1", "--size", "8"]
    overhead.main([*words, "--out", str(tmp_path)])
    result = json.loads((tmp_path / "overhead.json").read_text())
    assert {"computed_step_adds_us", "skipped_step_adds_us"} <= result.keys()
    for policy in ("default", "planned"):
        for kind in ("computed", "skipped"):
            assert result[f"{policy}_{kind}_step_adds_operators"] > 0
    # an error is read in every computed step by the default, and nothing by a plan
    assert 1 <= result["default_computed_step_adds_reads"] < 1.5
    assert result["planned_computed_step_adds_reads"] < 0.5


def test_costs_are_divided_among_computed_and_skipped_steps() -> None:
    plain, nfe, computed, skipped = 70.0, 12, 3.0, 5.0
    mixed = plain + nfe * computed + (50 - nfe) * skipped
    found = overhead.added(plain, plain + 50 * computed, mixed, nfe)
    assert found == {"computed": computed, "skipped": skipped}
