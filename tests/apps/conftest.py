"""What the tests of the command line share: a tiny pipeline on disk, and a way to call `main`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_pipelines import ALL_PIPELINES, TINY_PIPELINES

from adaptive_diffusion.apps.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that an error has to be."""
        assert self.code == 2
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0]


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs `adaptive-diffusion` with the given arguments, offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: Any) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Diffusion 1.5."""
    folder = tmp_path_factory.mktemp("models") / "sd15"
    TINY_PIPELINES["sd15"].make().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny text-to-video model, which tells nothing of its steps."""
    folder = tmp_path_factory.mktemp("models") / "text_to_video"
    TINY_PIPELINES["text_to_video"].make().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sound_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Audio, which makes half a second in stereo."""
    folder = tmp_path_factory.mktemp("models") / "stable_audio"
    ALL_PIPELINES["StableAudioPipeline"].make().save_pretrained(folder)
    return folder
