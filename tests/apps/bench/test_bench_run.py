"""`adaptive-diffusion bench` from end to end, on the digits and on tiny stand-ins."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from tiny_pipelines import T5_LENGTH, TINY_PIPELINES, i2vgen_xl, seeded

from adaptive_diffusion.apps import loading
from adaptive_diffusion.apps.bench.outputs import write_outputs
from adaptive_diffusion.apps.bench.progress import BenchProgress
from adaptive_diffusion.apps.bench.prompts import Prompt
from adaptive_diffusion.apps.bench.run import Bench
from adaptive_diffusion.apps.bench.store import FeatureStore, Store
from adaptive_diffusion.apps.bench.suite import load_suite
from adaptive_diffusion.apps.bench.ways import Maker
from adaptive_diffusion.miniatures import miniatures

SUITE = """
description = "Digits, quickly"
models = ["digits"]
schedulers = ["ddim", "euler"]
steps = [6]
guidance = [1.0, 3.0]
samples = 2
rows = ["fewer steps", "every k-th: reuse", "ours"]
"""

digits = pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand")


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "quick.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rows that are made from now on, one entry for every call of the pipeline."""
    rows: list[str] = []
    original = Maker.make

    def make(self: Maker, row: Any, sample: Any, *, decode: bool) -> Any:
        rows.append(row.name)
        return original(self, row, sample, decode=decode)

    monkeypatch.setattr(Maker, "make", make)
    return rows


@digits
def test_a_quick_benchmark_leaves_everything_behind(cli, suite_file, tmp_path):
    out = tmp_path / "out"
    done = cli("bench", suite_file, "--out", out, "--timed-samples", 1)

    assert done.code == 0, done.err
    assert "At equal cost" in done.out
    assert "2.00×" in done.out
    assert max(map(len, done.out.splitlines())) <= 120  # columns of the test's terminal
    assert re.search(r"about \d+ seconds for [\d,]+ denoiser evaluations", done.err)
    summary = json.loads((out / "summary.json").read_text())
    [cell] = summary["cells"]  # euler does not fit, and there is no guidance: left out by rule
    assert (cell["model"], cell["scheduler"], cell["steps"]) == ("digits", "ddim", 6)
    assert cell["guidance"] is None
    assert summary["suite_text"] == SUITE
    for entry in ("device", "commit", "date", "versions", "models"):
        assert summary[entry]
    rows = {row["name"]: row for row in cell["rows"]}
    assert rows["full run"]["psnr_db"]["mean"] == 120
    assert rows["fewer steps 3"]["nfe"] == 3
    assert rows["fewer steps 3"]["nfe_reduction"] == 2
    assert rows["every k-th: reuse k=2"]["nfe"] == 4  # 0, 2, 4 and the last
    for row in rows.values():
        assert row["samples"] == 2
        assert row["speedup"] > 0
        assert row["memory_gib"] is None

    with (out / "results.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == 2 * len(rows)
    record = next(each for each in records if each["row"] == "every k-th: reuse k=2")
    assert (record["seed"], record["nfe"], record["work"]) == ("0", "4.0", "101011")
    assert "| full run" in (out / "table.md").read_text()
    for kind in ("fidelity", "nfe", "masks"):
        assert Image.open(out / f"plots/digits-ddim-{kind}.png").size > (600, 200)


@digits
def test_what_is_there_is_not_made_again(cli, suite_file, tmp_path, made):
    out = tmp_path / "out"
    options = ("bench", suite_file, "--out", out, "--rows", "fewer steps", "--timed-samples", 1)
    cli(*options)
    table = (out / "table.md").read_text()
    made.clear()
    cli(*options)
    assert made == []
    assert (out / "table.md").read_text() == table

    lines = (out / "results.jsonl").read_text().splitlines()
    kept = [each for each in lines if not ('"fewer steps 3"' in each and '"seed": 1' in each)]
    (out / "results.jsonl").write_text("\n".join(kept) + "\n")
    cli(*options)
    assert made == ["full run", "full run", "fewer steps 3"]  # warm-up, reference, what was missing

    made.clear()
    cli(*options, "--samples", 3, "--no-timing")
    assert made[0] == "full run"
    assert len(made) - 1 == len(set(made))


@digits
def test_a_row_that_fails_is_reported_and_the_others_are_there(
    cli, suite_file, tmp_path, monkeypatch
):
    original = Maker.make

    def make(self: Maker, row: Any, sample: Any, *, decode: bool) -> Any:
        if row.name == "ours 0.04" and sample.seed == 1:
            raise RuntimeError("bad luck\nand more of it")
        return original(self, row, sample, decode=decode)

    monkeypatch.setattr(Maker, "make", make)
    out = tmp_path / "out"
    assert cli("bench", suite_file, "--out", out, "--no-timing", "--rows", "ours*").code == 0
    [cell] = json.loads((out / "summary.json").read_text())["cells"]
    rows = {row["name"]: row for row in cell["rows"]}
    assert rows["ours 0.04"]["failures"] == rows["ours 0.04"]["samples"] == 1
    assert rows["ours 0.04"]["errors"] == ["RuntimeError: bad luck"]
    assert all(row["samples"] == 2 for name, row in rows.items() if name != "ours 0.04")
    assert "1 of 2: RuntimeError: bad luck" in (out / "table.md").read_text()


@digits
def test_results_of_different_settings_are_not_mixed(cli, suite_file, tmp_path):
    options = ("bench", suite_file, "--out", tmp_path / "out", "--no-timing", "--rows", "ours 0.01")
    assert cli(*options).code == 0
    assert "holds results of another suite" in cli(*options, "--device", "cpu").error
    suite_file.write_text(SUITE + "seed = 7\n")
    assert "holds results of another suite" in cli(*options).error


def test_sounds_are_measured_on_their_spectrograms(cli, sound_model, tmp_path):
    suite = tmp_path / "sounds.toml"
    suite.write_text(
        f'description = "Sounds"\nmodels = ["{sound_model}"]\nsteps = [6]\nsamples = 1\n'
        'prompts = ["a bell"]\nrows = ["fewer steps 3", "ours 0.5", "SADA*"]\n'
    )
    done = cli("bench", suite, "--out", tmp_path / "out", "--no-timing")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    [cell] = summary["cells"]
    rows = {row["name"]: row for row in cell["rows"]}
    assert {row["failures"] for row in rows.values()} == {0}  # rivals that do not fit are noted
    assert 0 < rows["fewer steps 3"]["psnr_db"]["mean"] < 120
    assert any("left out" in note for note in summary["notes"])


STAND_INS = {
    "sd15": "sd15",
    "sdxl": "sdxl",
    "ldm": "ldm",
    "dit": "dit",
    "i2vgen-xl": "i2vgen_xl",
    "modelscope": "text_to_video",
    "flux": "flux",
    "sd35": "sd3",
    "qwen-image": "qwen_image",
    "wan21": "wan",
    "cogvideox": "cogvideox",
}
_T5 = {"max_sequence_length": T5_LENGTH}
_SMALL: dict[str, dict[str, Any]] = {
    "ldm": {"size": (64, 64)},
    "modelscope": {"size": (16, 16), "frames": 3},
    "i2vgen-xl": {"frames": 3},
    "dit": {"size": None},
    "flux": {"arguments": _T5},
    "sd35": {"arguments": _T5},
    "wan21": {"size": (64, 64), "frames": 9, "arguments": _T5},
    "cogvideox": {"size": (64, 64), "frames": 9, "arguments": _T5},
}


def stand_in(name: str) -> Any:
    """The suite's pipeline class with a tiny random model."""
    tiny = STAND_INS[name]
    return seeded(i2vgen_xl)() if tiny == "i2vgen_xl" else TINY_PIPELINES[tiny].make()


@pytest.mark.slow
@pytest.mark.parametrize("name", STAND_INS)
def test_every_suite_runs_on_a_stand_in(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_load", lambda *_: stand_in(name))
    suite = load_suite(name)
    small = {"steps": (6,), "samples": 2, "size": (32, 32), **_SMALL.get(name, {})}
    rows = ("fewer steps 3", "DPM-Solver++ 3", "UniPC 3", "*forecast k=2", "ours 0.04")
    picture = tmp_path / "picture.png"
    Image.radial_gradient("L").convert("RGB").save(picture)
    prompts = [
        Prompt(text, picture if name == "i2vgen-xl" else None) for text in ("a boat", "a red apple")
    ]
    bench = Bench(
        replace(suite, rows=rows, **small),
        prompts,
        Store(tmp_path / "results.jsonl"),
        FeatureStore(tmp_path / "features"),
        timed_samples=1,
        device="cpu",
    )
    with BenchProgress(Console(stderr=True)) as progress:
        bench.run(progress)
    cells = write_outputs(tmp_path, bench)

    assert len(cells) == len(suite.schedulers) * len(suite.guidance)
    for cell in cells:
        assert [row.errors for row in cell.rows if row.failures] == []
        found = {row.name: row for row in cell.rows}
        assert found["fewer steps 3"].nfe_reduction == 2
        assert found["every k-th: forecast k=2"].nfe == 4
        assert 0 < found["fewer steps 3"].psnr_db.worst < 120  # nothing that came out is no picture
        assert found["full run"].psnr_db.worst == 120
