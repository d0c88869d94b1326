"""`adaptive-diffusion serve --engine ray`: replicas of the server, behind one address."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from adaptive_diffusion.apps.choice import choose
from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.server.command import load_models
from adaptive_diffusion.apps.server.models import Picture
from adaptive_diffusion.miniatures import miniatures

pytest.importorskip("ray.serve", reason="needs the extra ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the replicas under /proc"),
]

STEPS = 20
PATIENCE = 120  # seconds


class Service:
    """The command as a process of its own."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = ["serve", "--model", "digits", "--engine", "ray", "--replicas", "2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adaptive_diffusion.apps.cli", *command, f"--port={self.port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"http://127.0.0.1:{self.port}/v1\n"

    def ask(self, seed: int, **more: Any) -> httpx.Response:
        body = {"prompt": "", "seed": seed, "steps": STEPS, **more}
        url = f"http://127.0.0.1:{self.port}/v1/images/generations"
        return httpx.post(url, json=body, timeout=PATIENCE)

    @property
    def replicas(self) -> list[int]:
        """Their processes."""
        found, parents = [], {self.process.pid}
        while parents:
            parents = {pid for pid, parent in _processes().items() if parent in parents}
            found += [pid for pid in parents if b"ServeReplica" in _command(pid)]
        return found


def _processes() -> dict[int, int]:
    """All processes, with their parents."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
        except OSError:  # it has ended
            continue
        found[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.process.terminate()
    running.process.wait(PATIENCE)


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    [made] = answer.json()["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(made["b64_json"])))).astype(int)


def test_every_request_gets_the_picture_that_it_would_get_alone(service):
    assert len(service.replicas) == 2
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(service.ask, range(16)))
    [model] = load_models(["digits"], LoadOptions(device="cpu", dtype="float32"), {})
    for seed, answer in enumerate(answers):
        alone = np.asarray(model.draw(Picture("", seed, STEPS, choose())).image).astype(int)
        assert abs(pixels(answer) - alone).max() <= 1  # float rounding


def test_limits_and_streams_are_the_servers(service):
    assert service.ask(0, steps=10_000).status_code == 400
    streamed = service.ask(0, stream=True).text
    assert streamed.count("event: image_generation.progress") == STEPS
    assert streamed.endswith("data: [DONE]\n\n")


def test_a_replica_that_is_killed_is_replaced(service):
    before = service.replicas
    os.kill(before[0], signal.SIGKILL)
    answered = 0
    deadline = time.monotonic() + PATIENCE
    while set(service.replicas) <= set(before) and time.monotonic() < deadline:
        answered += service.ask(answered).status_code == 200
    assert answered  # by the other one
    while len(service.replicas) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert before[1] in service.replicas
    assert {service.ask(seed).status_code for seed in range(8)} == {200}


def test_sigterm_finishes_what_is_begun():
    service = Service()
    with ThreadPoolExecutor() as clients:
        answer = clients.submit(service.ask, 0, steps=150, n=8, tolerance=0)
        time.sleep(0.5)
        service.process.terminate()
        assert len(answer.result().json()["data"]) == 8
    assert service.process.wait(PATIENCE) == 0
