"""Settings and fixtures of all tests."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.setdefault("MPLBACKEND", "agg")

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tiny_pipelines import TINY_PIPELINES

import adaptive_diffusion as ad

# Two runs are equal to the bit only while sums are split among threads in one way.
torch.set_num_threads(1)

settings.register_profile("default", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("default")


@pytest.fixture
def tiny() -> Iterator[Callable[[str], Any]]:
    """Makes tiny pipelines by name, and disables them after the test."""
    made: list[Any] = []

    def make(name: str) -> Any:
        pipe = TINY_PIPELINES[name].make()
        pipe.set_progress_bar_config(disable=True)
        made.append(pipe)
        return pipe

    yield make
    for pipe in made:
        ad.disable(pipe)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed elsewhere."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, folder], cwd=Path(__file__).parents[1], check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    return file
