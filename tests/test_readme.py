"""The commands and the code of the README and of Start, from a wheel in a clean environment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import FOLDER, miniatures

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/index.md")


def blocks(document: str, language: str) -> list[str]:
    """The code of that language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


SHELL = [block for document in DOCUMENTS for block in blocks(document, "sh")]
REQUESTS = [block for block in SHELL if block.startswith("curl ")]
LINES = [
    line.partition("#")[0].strip()
    for block in SHELL
    if block not in REQUESTS
    for line in block.splitlines()
]
COMMANDS = [
    shlex.split(line) for line in dict.fromkeys(LINES) if line.startswith("adaptive-diffusion ")
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
GIVEN = {
    "FOLDER_OR_HUB_ID": "digits",
    "MODEL": "digits",
    "examples/prompts.txt": "prompts.txt",
}
PROMPTS = ["a red apple", "a tiger face", "a sunflower", "a penguin"]


# installing is not counted, as a download may be slow; nor does it fail on a busy machine
pytestmark = pytest.mark.timeout(1800, func_only=True)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment's `adaptive-diffusion`, with command line, server and page."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, *constraints, f"{wheel}[cli,serve,ui]"], check=True, timeout=1800)
    return folder / "bin" / "adaptive-diffusion"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the files that the commands name."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    lines = [f'{{"prompt": "{prompt}"}}' for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    ad.Profile.from_pretrained(miniatures()["emoji"]).save(tmp_path / "profile.json")
    return tmp_path


def environment(installed: Path) -> dict[str, str]:
    """As in a terminal where the clean environment is active."""
    hidden = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", FOLDER)
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    path = f"{installed.parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_the_readme_names_every_command() -> None:
    from adaptive_diffusion.apps.commands.app import app

    named = {command.callback.__name__ for command in app.registered_commands}
    assert {command[1] for command in COMMANDS} == named


def test_no_command_is_left_out() -> None:
    """What is not run here installs, or `.ci/run` runs it."""
    elsewhere = ("pip install -e ", "make demo", ". .venv/bin/activate")
    rest = [line for line in LINES if line and not line.startswith("adaptive-diffusion ")]
    assert all(line.startswith(elsewhere) for line in rest), rest


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_runs(command: list[str], installed: Path, workplace: Path) -> None:
    _, name, *arguments = (GIVEN.get(word, word) for word in command)
    if "digits" in arguments:
        arguments = [word for word in arguments if word != "a red apple"]  # it takes no prompts
    command = [str(installed), name, *arguments, *CHEAP.get(name, [])]
    if name in ("ui", "serve"):
        with running(command, installed, workplace) as address:
            assert urlopen(address).status == 200
    else:
        run(command, installed, workplace)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("request_", REQUESTS, ids=DOCUMENTS)
def test_the_server_answers(request_: str, installed: Path, tmp_path: Path) -> None:
    server = [str(installed), "serve", *CHEAP["serve"]]
    with running(server, installed, tmp_path) as address:
        asked = request_.replace("http://127.0.0.1:8000", address)
        assert asked != request_
        said = run(["sh", "-c", asked], installed, tmp_path)
    answer = tmp_path / "answer.json"
    assert '"b64_json":' in (answer.read_text() if answer.exists() else said)
    for picture in tmp_path.glob("*.png"):
        assert Image.open(picture).size == (32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_code_runs(document: str, installed: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(document, "python"))
    code = code.replace('PROMPTS["emoji"]', 'PROMPTS["emoji"][:4]')  # to be quick
    run([str(installed.parent / "python"), "-c", code], installed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_help_comes_at_once(argument: str, installed: Path, tmp_path: Path) -> None:
    taken = []
    for _ in range(5):  # the first one fills caches; the quickest one shows what it needs
        began = time.perf_counter()
        run([str(installed), argument], installed, tmp_path)
        taken.append(time.perf_counter() - began)
    assert min(taken) < 2  # a third of a second on an idle machine


def run(command: list[str], installed: Path, folder: Path) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(installed),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(command: list[str], installed: Path, folder: Path) -> Iterator[str]:
    """A server's address, once it has said it; the server ends when it is interrupted."""
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(installed),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        while not (said := re.search(r"http://[\w.]+:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield said[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
