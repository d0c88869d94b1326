"""The wheel carries the default miniature, the smallest and the hardest; a folder has others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import FOLDER, miniatures, pipeline_miniatures

ROOT = Path(__file__).parents[2]
CARRIED = {"digits", "emoji", "scenes"}

INSTALLED = f"""
import os
import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import miniatures

assert "site" in ad.__file__, ad.__file__
assert set(miniatures()) == {CARRIED}
assert type(ad.load_miniature("digits")).__name__ == "DDIMPipeline"
assert type(ad.load_miniature("scenes")).__name__ == "StableDiffusion3Pipeline"
try:
    ad.load_miniature("emoji-dit")
except ad.MiniatureError as error:
    assert "set {FOLDER} to the folder that has them" in str(error)
else:
    raise AssertionError("it is not in the wheel")
os.environ["{FOLDER}"] = {str(ROOT / "src/adaptive_diffusion/miniatures/weights")!r}
assert "transformer" in ad.load_miniature("emoji-dit").components
"""


def test_the_wheel_carries_three(wheel: Path) -> None:
    prefix = "adaptive_diffusion/miniatures/weights/"
    names = [name for name in ZipFile(wheel).namelist() if name.startswith(prefix)]
    assert {name.removeprefix(prefix).split("/")[0] for name in names} == CARRIED
    for name in CARRIED:
        present = {file.removeprefix(prefix + name + "/") for file in names}
        assert {"model_index.json", "README.md"} <= present
    assert wheel.stat().st_size < 25e6


@pytest.mark.slow
def test_the_others_are_found_by_their_folder(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    environment.pop(FOLDER, None)
    subprocess.run([sys.executable, "-c", INSTALLED], check=True, cwd=tmp_path, env=environment)


def test_a_folder_of_further_miniatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_index.json").write_text("{}")
    (tmp_path / "own-loop").mkdir()
    (tmp_path / "own-loop" / "config.json").write_text("{}")
    (tmp_path / "no-model").mkdir()
    before, pipelines = miniatures(), pipeline_miniatures()
    monkeypatch.setenv(FOLDER, str(tmp_path))
    further = {name: tmp_path / name for name in ("mine", "own-loop")}
    assert miniatures() == before | further
    assert pipeline_miniatures() == pipelines | {"mine": tmp_path / "mine"}
    assert list(miniatures()) == sorted(miniatures())
    monkeypatch.setenv(FOLDER, str(tmp_path / "nowhere"))
    assert miniatures() == before


def test_what_is_not_at_hand_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(ad.MiniatureError, match=f"set {FOLDER} to the folder that has them"):
        ad.load_miniature("photographs")
