"""`adaptive-diffusion serve`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tiny_pipelines import TINY_PIPELINES

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(model: Path) -> Iterator[Start]:
    """Runs the command on a free port, in a process of its own: that, and its address."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str, env: dict[str, str] | None = None) -> tuple[Any, str]:
        arguments = ["serve", "--model", str(model), "--port", "0", *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "adaptive_diffusion.apps.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        )
        running.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        for _ in range(600):
            try:
                httpx.get(url.replace("/v1", "/health"))
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        return process, url

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ask(url: str, **more: Any) -> httpx.Response:
    body = {"prompt": "a red apple", "size": "32x32", "steps": 40, "tolerance": 0} | more
    return httpx.post(f"{url}/images/generations", json=body, timeout=60)


@pytest.mark.slow
def test_sigterm_finishes_what_is_begun_and_takes_nothing_new(start: Start) -> None:
    process, url = start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, url, n=2) for _ in range(3)]
        while not httpx.get(url.replace("/v1", "/health")).json()["running"]:
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        for answer in answers:
            assert answer.result().status_code == 200
            assert len(answer.result().json()["data"]) == 2
    process.wait(30)
    with pytest.raises(httpx.ConnectError):
        ask(url)


@pytest.mark.slow
def test_sigterm_refuses_what_takes_too_long(start: Start) -> None:
    process, url = start("--drain-seconds", "1", "--max-steps", "100000")
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(ask, url, steps=900)
        while not httpx.get(url.replace("/v1", "/health")).json()["running"]:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert time.monotonic() - began < 15
        with contextlib.suppress(httpx.RemoteProtocolError):  # or there is no answer at all
            assert answer.result().status_code == 503


@pytest.mark.slow
def test_the_key_can_come_from_the_environment(start: Start) -> None:
    _, url = start(env={"ADAPTIVE_DIFFUSION_API_KEY": "k"})
    assert httpx.get(f"{url}/models").status_code == 401
    headers = {"Authorization": "Bearer k"}
    assert httpx.get(f"{url}/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "set --api-key"),
        (("--model", "nothing"), "no model 'nothing'"),
        (("--model", "emoji", "--model", "emoji"), "given twice"),
        (("--tolerance", "-1"), "tolerance"),
        (("--quality", "best"), "no quality 'best'"),
        (("--nfe", "1"), "nfe must be a whole number of at least 2"),
        (("--nfe", "9", "--quality", "fast"), "give --nfe alone or with --profile"),
        (("--profile", "none", "--target-psnr", "40"), "--target-psnr needs a --profile"),
        (("--target-psnr", "999"), "no plan in the profile reaches 999 dB"),
        (("--profile", "nobody/nothing"), "no adaptive_diffusion.json found for"),
        (("--profile", "nowhere.json"), "profile nowhere.json can't be read"),
        (("--profile", "emoji=nowhere.json"), "profile nowhere.json can't be read"),
        (("--profile", "a", "--profile", "emoji=b"), "--profile is given twice for emoji"),
        (("--model", "emoji", "--model", "digits", "--profile", "a"), "say of which model"),
        (("--concurrency", "0"), "--concurrency"),
    ],
)
def test_bad_options_are_refused(cli: Any, options: tuple[str, ...], message: str) -> None:
    assert message in cli("serve", *options).error


def test_pickles_are_not_loaded(cli: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(model, folder)
    (folder / "text_encoder" / "model.safetensors").unlink()
    weights = TINY_PIPELINES["sd15"].make().text_encoder.state_dict()
    torch.save(weights, folder / "text_encoder" / "pytorch_model.bin")
    assert "no file named model.safetensors" in cli("serve", "--model", folder).error


@pytest.mark.parametrize(("entry", "file"), [("_class_name", "code.py"), ("unet", "unet/code.py")])
def test_code_of_a_model_is_not_run(
    cli: Any, model: Path, tmp_path: Path, entry: str, file: str
) -> None:
    folder = tmp_path / "with-code"
    shutil.copytree(model, folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {entry: ["code", "Own"]}))
    ran = tmp_path / "ran"
    (folder / file).write_text(f"open({str(ran)!r}, 'w')\n")
    assert f"custom code in {file}" in cli("serve", "--model", folder).error
    assert not ran.exists()
