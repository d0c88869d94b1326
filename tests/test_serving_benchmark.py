"""The load test of the server, with a few short pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import serving


@pytest.mark.slow
def test_four_ways_make_the_pictures_of_single_runs(tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    words = ["--steps", "20", "--requests", "6", "--rounds", "1", "--clients", "3"]
    serving.main([*words, "--concurrency", "3", "--out", str(out)])
    result = json.loads(out.read_text())
    ways = {way["name"]: way for way in result["ways"]}
    assert len(ways) == 4
    for way in ways.values():
        assert way["pictures"] == 6
        assert way["worst_psnr_to_single_run"] >= 45
    assert ways["full, batched"]["mean_nfe"] == 20
    assert ways["full, batched"]["mean_pictures_per_denoiser_call"] > 1.5
    assert ways["accelerated, continuously batched"]["mean_nfe"] < 20
