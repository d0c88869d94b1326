"""The server under load: full and accelerated, one picture at a time and batched, in one run.

    python benchmarks/serving.py

Clients on this machine each ask for one picture after the other. Two servers run as processes of
their own, one of which makes one picture at a time; they are asked in turns, so that what else the
machine does meets all four ways alike. Every picture is compared with what the model makes alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from adaptive_diffusion.apps.choice import choose
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.server.command import load_models
from adaptive_diffusion.apps.server.models import Picture
from adaptive_diffusion.numerics.metrics import psnr
from adaptive_diffusion.policies.error_controlled import QUALITIES

PROMPTS = ["a red apple", "tiger", "a slice of pizza", "rocket", "cat face", "sunflower", "guitar"]
FULL, ACCELERATED = 0.0, QUALITIES["balanced"]
WARMING = 4  # pictures
ALIKE = 99.0  # dB, for pictures that are equal to the last bit
CALLS, CPU = "adaptive_diffusion_denoiser_call_requests_count", "process_cpu_seconds_total"
SINGLE, BATCHED = "one at a time", "batched"


@dataclass
class Way:
    """One of the four ways to serve, and what was measured of it."""

    name: str
    server: str
    tolerance: float
    rounds: list[float] = field(default_factory=list)  # pictures per second
    latencies: list[float] = field(default_factory=list)  # seconds
    nfe: list[int] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)  # to the same picture, made alone
    calls: list[float] = field(default_factory=list)  # of the denoiser, in a round
    cpu: list[float] = field(default_factory=list)  # seconds of processor time of the server

    def result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pictures": len(self.latencies),
            "pictures_per_second": statistics.median(self.rounds),
            "pictures_per_second_of_each_round": self.rounds,
            "processor_seconds_per_picture": sum(self.cpu) / len(self.latencies),
            "latency_seconds_p50": float(np.quantile(self.latencies, 0.5)),
            "latency_seconds_p95": float(np.quantile(self.latencies, 0.95)),
            "mean_nfe": statistics.mean(self.nfe),
            "mean_pictures_per_denoiser_call": sum(self.nfe) / sum(self.calls),
            "worst_psnr_to_single_run": min(self.psnr),
        }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--concurrency", type=int, default=16, help="of the server that batches")
    parser.add_argument("--requests", type=int, default=48, help="of a round, for each way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=300, help="for a round's way, at most")
    parser.add_argument("--threads", type=int, default=1, help="of the server's operators")
    parser.add_argument("--out", type=Path, default=Path("out/serving/serving.json"))
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    alone = pictures_alone(arguments)
    ways = [
        Way("full, one at a time", SINGLE, FULL),
        Way("accelerated, one at a time", SINGLE, ACCELERATED),
        Way("full, batched", BATCHED, FULL),
        Way("accelerated, continuously batched", BATCHED, ACCELERATED),
    ]
    with (
        server(arguments, 1) as single,
        server(arguments, arguments.concurrency) as batched,
    ):
        urls = {SINGLE: single, BATCHED: batched}
        for way in ways:  # warms up, and finds out that the model can be batched
            asyncio.run(ask(urls[way.server], way, arguments, WARMING))
        for number in range(arguments.rounds):
            for way in ways:
                measure(urls[way.server], way, arguments, alone)
                print(f"round {number + 1}, {way.name}: {way.rounds[-1]:.2f} per second")
    result = summary(ways, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def summary(ways: list[Way], arguments: argparse.Namespace) -> dict[str, Any]:
    full, accelerated = ways[2:]
    gains = [after / before for before, after in zip(full.rounds, accelerated.rounds, strict=True)]
    return {
        "ways": [way.result() for way in ways],
        "throughput_accelerated_over_full_batched": statistics.median(gains),
        "throughput_accelerated_over_full_batched_of_each_round": gains,
        "processor_time_full_over_accelerated_batched": sum(full.cpu) / sum(accelerated.cpu),
        **{
            name: getattr(arguments, name)
            for name in ("model", "steps", "clients", "concurrency", "requests", "threads")
        },
        "tolerance": ACCELERATED,
        "device": describe_device(torch.device("cpu")),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
    }


def wanted(index: int) -> tuple[str, int]:
    """The prompt and seed of a request; they come again, so that few have to be made alone."""
    return PROMPTS[index % len(PROMPTS)], index % (2 * len(PROMPTS))


def pictures_alone(arguments: argparse.Namespace) -> dict[Any, np.ndarray]:
    [model] = load_models([arguments.model], LoadOptions(device="cpu", dtype="float32"), {})
    return {
        (seed, tolerance): np.asarray(
            model.draw(Picture(prompt, seed, arguments.steps, choose(tolerance=tolerance))).image
        )
        for prompt, seed in map(wanted, range(2 * len(PROMPTS)))
        for tolerance in (FULL, ACCELERATED)
    }


@contextmanager
def server(arguments: argparse.Namespace, concurrency: int) -> Iterator[str]:
    """Runs `adaptive-diffusion serve`; gives its address."""
    command = [sys.executable, "-m", "adaptive_diffusion.apps.cli", "serve", "--port", "0"]
    options = ["--model", arguments.model, "--concurrency", str(concurrency), "--device", "cpu"]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    process = subprocess.Popen(
        [*command, *options, "--queue", str(max(1, arguments.clients))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | threads,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removesuffix("/v1")
        if not url:
            raise RuntimeError("the server did not start")
        httpx.Client(transport=httpx.HTTPTransport(retries=10)).get(f"{url}/health")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def measure(
    url: str, way: Way, arguments: argparse.Namespace, alone: dict[Any, np.ndarray]
) -> None:
    calls, cpu = metric(url, CALLS), metric(url, CPU)
    began = time.perf_counter()
    answers = asyncio.run(ask(url, way, arguments, arguments.requests))
    way.rounds.append(len(answers) / (time.perf_counter() - began))
    way.calls.append(metric(url, CALLS) - calls)
    way.cpu.append(metric(url, CPU) - cpu)
    for seconds, entry in answers:
        way.latencies.append(seconds)
        way.nfe.append(entry["nfe"])
        pixels = np.asarray(Image.open(BytesIO(base64.b64decode(entry["b64_json"]))))
        way.psnr.append(fidelity(pixels, alone[entry["seed"], way.tolerance]))


async def ask(
    url: str, way: Way, arguments: argparse.Namespace, count: int
) -> list[tuple[float, dict[str, Any]]]:
    """So many pictures, by all clients: the seconds that each took, and what came."""
    remaining = iter(range(count))
    answers = []
    async with httpx.AsyncClient(base_url=url, timeout=arguments.seconds) as client:

        async def work() -> None:
            for index in remaining:
                prompt, seed = wanted(index)
                body = {"prompt": prompt, "seed": seed, "tolerance": way.tolerance}
                began = time.perf_counter()
                answer = await client.post(
                    "/v1/images/generations", json=body | {"steps": arguments.steps}
                )
                answer.raise_for_status()
                answers.append((time.perf_counter() - began, answer.json()["data"][0]))

        workers = asyncio.gather(*(work() for _ in range(arguments.clients)))
        await asyncio.wait_for(workers, arguments.seconds)
    return answers


def metric(url: str, name: str) -> float:
    """A number that the server tells Prometheus."""
    found = re.search(rf"^{name} (\S+)$", httpx.get(f"{url}/metrics", timeout=60).text, re.M)
    assert found is not None
    return float(found[1])


def fidelity(image: np.ndarray, expected: np.ndarray) -> float:
    """PSNR in dB, of pixels of eight bits."""
    pair = (torch.from_numpy(each.astype(np.float32))[None] for each in (image, expected))
    return min(ALIKE, float(psnr(*pair, data_range=255.0)))


if __name__ == "__main__":
    main()
