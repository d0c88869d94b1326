"""The commands of the README and of Start, from a wheel in a clean environment; and the code."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import FOLDER

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/index.md")


def blocks(document: str, language: str) -> list[str]:
    """The code of that language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [
    shlex.split(line)
    for line in dict.fromkeys(
        line.partition("#")[0].strip()
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for line in block.splitlines()
        if line.startswith("adaptive-diffusion ")
    )
]

CHEAP = {  # what a command gets in addition, to be quick
    "compare": ["--steps", "12"],
    "doctor": ["--steps", "12"],
    "generate": ["--steps", "12"],
    "batch": ["--steps", "12"],
    "calibrate": ["--steps", "12", "--size", "32"],
    "serve": ["--port", "0"],
    "bench": ["--models", "digits", "--rows", "ours 0.02", "--samples", "1", "--no-timing"],
}
GIVEN = {"FOLDER_OR_HUB_ID": "digits", "MODEL": "digits", "FILE": "prompts.txt"}
PROMPTS = ["a red apple", "a tiger face", "a sunflower", "a penguin"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment's `adaptive-diffusion`, with command line, server and page."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, *constraints, f"{wheel}[cli,serve,ui]"], check=True)
    return folder / "bin" / "adaptive-diffusion"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the files that the commands name."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    lines = [f'{{"prompt": "{prompt}"}}' for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    digits = ad.load_miniature("digits")
    ad.calibrate(digits, 4, budget_nfe=10, num_inference_steps=12).save(tmp_path / "profile.json")
    return tmp_path


def environment() -> dict[str, str]:
    hidden = ("PYTHONPATH", FOLDER)
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_the_readme_names_every_command() -> None:
    from adaptive_diffusion.apps.commands.app import app

    named = {command.callback.__name__ for command in app.registered_commands}
    assert {command[1] for command in COMMANDS} == named


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_runs(command: list[str], installed: Path, workplace: Path) -> None:
    _, name, *arguments = (GIVEN.get(word, word) for word in command)
    if "digits" in arguments:
        arguments = [word for word in arguments if word != "a red apple"]  # it takes no prompts
    if name in ("ui", "serve"):
        start_and_stop([installed, name, *arguments, *CHEAP.get(name, [])], workplace)
        return
    done = subprocess.run(
        [installed, name, *arguments, *CHEAP.get(name, [])],
        cwd=workplace,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_code_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks(document, "python")), {})


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_help_comes_at_once(arguments: list[str], installed: Path) -> None:
    subprocess.run([installed, *arguments], check=True, capture_output=True)  # fills caches
    began = time.perf_counter()
    subprocess.run([installed, *arguments], check=True, capture_output=True)
    assert time.perf_counter() - began < 2  # a third of a second on an idle machine


def start_and_stop(command: list[str | Path], folder: Path) -> None:
    """Starts a server, waits until it says its address, and ends it."""
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + 200
        while "http://" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
