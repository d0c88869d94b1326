"""What clients do wrong, many times over: the server answers, and goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image
from running_server import Served, serving, tiny_model
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from adaptive_diffusion.apps.server.limits import Limits

DESCRIBED = (status_code_conformance, content_type_conformance, response_schema_conformance)
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
LIMITS = Limits(steps=4, size=32, images=2, body_bytes=100_000, queue=8, concurrency=4)


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    """A server whose limits make every request a short one."""
    with serving(tiny_model("sd15"), limits=LIMITS) as running:
        yield running


def answers_with(small: Served) -> None:
    """The server still makes pictures."""
    good = {"prompt": "a cat", "steps": 3, "size": "16x16"}
    answer = httpx.post(small.url + GENERATIONS, json=good, timeout=60)
    assert answer.status_code == 200, answer.text


def is_refusal(answer: httpx.Response) -> bool:
    """Whether it says in OpenAI's form what was wrong with the request."""
    return 400 <= answer.status_code < 500 and bool(answer.json()["error"]["message"])


def counts(few: int, many: int) -> list[Any]:
    return [few, pytest.param(many, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("count", counts(20, 1000))
@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_requests_made_from_the_description(small: Served, path: str, count: int) -> None:
    """Valid and invalid ones; what is answered is a picture or a reason."""
    operation = schemathesis.openapi.from_url(f"{small.url}/openapi.json")[path]["POST"]
    positive, negative = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(case=positive | negative)
    def ask(case: Any) -> None:
        answer = case.call(timeout=60)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]
        case.validate_response(answer, checks=DESCRIBED)

    ask()
    answers_with(small)


@pytest.mark.parametrize("count", counts(100, 2000))
def test_malformed_bodies(small: Served, count: int) -> None:
    """JSON with bytes changed, cut short or repeated, under several content types."""
    generator = random.Random(0)
    good = json.dumps({"prompt": "ein Apfel 🍎", "n": 1, "steps": 3, "seed": 5, "size": "16x16"})
    kinds = ["application/json", "text/plain", "multipart/form-data; boundary=x", ""]
    with httpx.Client(base_url=small.url, timeout=60) as client:
        for _ in range(count):
            body = mutated(good.encode(), generator)
            path = generator.choice([GENERATIONS, EDITS])
            headers = {"Content-Type": generator.choice(kinds)}
            answer = client.post(path, content=body, headers=headers)
            assert answer.status_code == 200 or is_refusal(answer), (body, answer.text)
    answers_with(small)


@pytest.mark.parametrize("count", counts(100, 2000))
def test_damaged_pictures(small: Served, count: int) -> None:
    generator = random.Random(1)
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    files = []
    for kind in ("PNG", "JPEG", "WEBP"):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        files.append(buffer.getvalue())
    fields = {"prompt": "a cat", "steps": "2", "strength": "0.5"}
    with httpx.Client(base_url=small.url, timeout=60) as client:
        for _ in range(count):
            content = mutated(generator.choice(files), generator)
            answer = client.post(EDITS, data=fields, files={"image": ("x", content)})
            assert answer.status_code == 200 or is_refusal(answer), answer.text
    answers_with(small)


@pytest.mark.parametrize("count", counts(10, 200))
def test_oversized_bodies(small: Served, count: int) -> None:
    """Announced, sent in chunks, or announced and never sent."""
    host, port = httpx.URL(small.url).host, httpx.URL(small.url).port
    for turn in range(count):
        size = 200_000 + turn
        path = (GENERATIONS, EDITS)[turn % 2]
        chunks = (b"x" * 10_000 for _ in range(size // 10_000))
        with contextlib.suppress(httpx.WriteError):  # the connection was closed before its end
            assert is_refusal(httpx.post(small.url + path, content=chunks, timeout=60))
        with socket.create_connection((host, port)) as raw:
            raw.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
            )
            assert b" 413 " in raw.recv(100)
    answers_with(small)


@pytest.mark.parametrize("count", counts(12, 200))
@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_disconnect(count: int, stream: bool) -> None:
    """Their pictures' work ends; those of the others are made."""
    with serving(tiny_model(), limits=Limits(steps=1000, concurrency=4)) as served:
        leave_after = (0.1 * (1 + turn % 4) for turn in range(count))
        body = {"prompt": "a cat", "steps": 900, "tolerance": 0, "size": "16x16", "stream": stream}

        def ask_and_leave(seconds: float) -> None:
            try:
                with httpx.stream(
                    "POST", served.url + GENERATIONS, json=body, timeout=seconds
                ) as a:
                    time.sleep(seconds)
                    assert a.status_code == 200
            except httpx.ReadTimeout:
                pass

        def ask_and_stay(seed: int) -> httpx.Response:
            stays = body | {"steps": 10, "seed": seed, "stream": False}
            return httpx.post(served.url + GENERATIONS, json=stays, timeout=120)

        with ThreadPoolExecutor(5) as pool:
            staying = pool.submit(ask_and_stay, 3)
            list(pool.map(ask_and_leave, leave_after))
            assert staying.result().status_code == 200
        for _ in range(600):
            if not (left := httpx.get(f"{served.url}/health").json())["running"]:
                break
            time.sleep(0.05)
        assert left["running"] == left["queued"] == 0
        assert ask_and_stay(3).json()["data"] == staying.result().json()["data"]


def test_a_failure_has_its_reason_in_the_answer_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tiny_model()
    model.pipe.vae.decode = broken
    with serving(model) as served, caplog.at_level(logging.ERROR):
        body = {"prompt": "a cat", "steps": 3, "size": "16x16"}
        answer = httpx.post(served.url + GENERATIONS, json=body, timeout=60)
        assert answer.status_code == 500
        assert "the picture could not be made" in answer.json()["error"]["message"]
        events = httpx.post(served.url + GENERATIONS, json=body | {"stream": True}, timeout=60)
        assert "event: error" in events.text
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 2
    assert "no decoding today" in str(failures[0].exc_info)


def broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("no decoding today")


def mutated(content: bytes, generator: random.Random) -> bytes:
    """The content with some bytes changed, cut out or repeated."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 5)):
        place = generator.randrange(len(changed) + 1)
        what = generator.randrange(4)
        if what == 0:
            changed[place:place] = generator.randbytes(generator.randint(1, 4))
        elif what == 1:
            del changed[place : place + generator.randint(1, 20)]
        elif what == 2:
            changed[place : place + 1] = generator.randbytes(1)
        else:
            del changed[max(place, 1) :]
    return bytes(changed)
