"""What is imported when: help needs no torch, the package needs torch alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import adaptive_diffusion as ad

ROOT = Path(__file__).parents[1]
_HEAVY = ("torch", "diffusers", "transformers", "matplotlib", "PIL", "numpy")


def imported_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has after running the code."""
    after = f"{code}\nimport sys\nprint(*({{*sys.modules}} & {{*{_HEAVY!r}}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", after], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compare", "--help"]], ids=str)
def test_help_imports_nothing_heavy(arguments):
    code = f"from adaptive_diffusion.apps.cli import main\nmain({arguments!r})"
    assert imported_by(code) == set()


def test_the_public_names_need_torch_alone():
    code = "import adaptive_diffusion as ad\nfor name in ad.__all__: getattr(ad, name)"
    assert imported_by(code) <= {"torch", "numpy"}


def test_every_public_name_is_there_and_no_other():
    assert {*ad.__all__} <= {*dir(ad)}
    assert all(getattr(ad, name) is not None for name in ad.__all__)
    with pytest.raises(AttributeError, match="no attribute 'accelarate'"):
        _ = ad.accelarate


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "recipes/*", "tests"])
def test_no_file_beside_a_script_hides_a_module_of_python(folder):
    beside = {file.stem for file in ROOT.glob(f"{folder}/*.py")}
    assert beside
    assert not beside & sys.stdlib_module_names
