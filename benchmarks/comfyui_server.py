"""One workflow on ComfyUI's real server, with and without the node: time, calls and pictures.

    COMFYUI_PATH=... python benchmarks/comfyui_server.py

The server runs on the processor. It gets this project's nodes as its custom nodes, and beside them
two that load the miniature `emoji` and decode its latents; the sampler is ComfyUI's own KSampler.
Every workflow is posted to `/prompt`, and its outputs are read from `/history`, like the page does.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfyui_headless as headless

_STARTING = 180.0  # seconds until the server must answer

_NODES = """
import comfyui_headless

class LoadMiniature:
    CATEGORY = "miniature"
    FUNCTION = "load"
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING", "LATENT", "MINIATURE")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"prompt": ("STRING", {"default": ""})}}

    def load(self, prompt):
        import torch
        made = comfyui_headless.loaded()
        latent = {"samples": torch.zeros(1, *made.shape)}
        return made.patcher, made.conditioning(prompt), made.conditioning(""), latent, made

class DecodeMiniature:
    CATEGORY = "miniature"
    FUNCTION = "decode"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "miniature": ("MINIATURE",)}}

    def decode(self, latent, miniature):
        return (miniature.pixels(latent["samples"]).add(1).div(2).clamp(0, 1).movedim(1, 3),)

NODE_CLASS_MAPPINGS = {"LoadMiniature": LoadMiniature, "DecodeMiniature": DecodeMiniature}
"""


def serve(arguments: list[str]) -> None:
    """Becomes the server, in this process."""
    path = os.environ[headless.COMFYUI_PATH]
    headless.pipeline("emoji")  # before torchvision seems to be there
    sys.path.insert(0, path)
    sys.argv = [str(Path(path) / "main.py"), *arguments]
    with headless.stood_in():
        runpy.run_path(sys.argv[0], run_name="__main__")


@contextmanager
def server() -> Iterator[str]:
    """The address of a server that runs for as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        custom = Path(folder) / "custom_nodes"
        shutil.copytree(headless.NODES, custom / "adaptive_diffusion_nodes")
        (custom / "miniature").mkdir()
        (custom / "miniature" / "__init__.py").write_text(_NODES)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = (Path(folder) / "log.txt").open("w+")
        words = ["--serve", "--cpu", "--port", str(port), "--base-directory", folder]
        process = subprocess.Popen(
            [sys.executable, __file__, *words, "--disable-api-nodes", "--disable-metadata"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, Path(log.name))
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)
            log.close()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _STARTING
    while True:
        try:
            urllib.request.urlopen(f"{address}/system_stats", timeout=5).read()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the server did not start:\n{log.read_text()[-3000:]}"
                ) from None
            time.sleep(1)


def workflow(seed: int, sampler: str, quality: str | None, steps: int = 50) -> dict[str, Any]:
    """A graph as `/prompt` takes it; without the nodes of this project if no quality is given."""
    graph: dict[str, Any] = {
        "load": {"class_type": "LoadMiniature", "inputs": {"prompt": "a red apple"}},
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["load", 0] if quality is None else ["accelerate", 0],
                "positive": ["load", 1],
                "negative": ["load", 2],
                "latent_image": ["load", 3],
                "seed": seed,
                "steps": steps,
                "cfg": 3.0,
                "sampler_name": sampler,
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "decode": {
            "class_type": "DecodeMiniature",
            "inputs": {"latent": ["sample", 0], "miniature": ["load", 4]},
        },
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["decode", 0], "filename_prefix": "picture"},
        },
    }
    if quality is not None:
        graph["accelerate"] = {
            "class_type": "AdaptiveDiffusion",
            "inputs": {"model": ["load", 0], "quality": quality},
        }
        graph["report"] = {
            "class_type": "AdaptiveDiffusionReport",
            "inputs": {"model": ["accelerate", 0], "latent": ["sample", 0]},
        }
    return graph


def post(address: str, graph: dict[str, Any]) -> dict[str, Any]:
    """Runs a graph: seconds, the report's text, and the picture's file as bytes."""
    began = time.perf_counter()
    body = json.dumps({"prompt": graph}).encode()
    prompt = _json(urllib.request.Request(f"{address}/prompt", data=body))["prompt_id"]
    while not (history := _json(f"{address}/history/{prompt}")):
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    entry = history[prompt]
    if entry["status"]["status_str"] != "success":
        raise RuntimeError(json.dumps(entry["status"]))
    outputs = entry["outputs"]
    image = outputs["save"]["images"][0]["filename"]
    picture = urllib.request.urlopen(f"{address}/view?filename={image}").read()
    text = outputs.get("report", {}).get("text", [""])[0]
    return {"seconds": seconds, "report": text, "picture": picture}


def _json(request: Any) -> Any:
    return json.loads(urllib.request.urlopen(request).read())


def compare(address: str, sampler: str, repeats: int) -> dict[str, Any]:
    """Times with and without the node, by turns, with other seeds; the first is not counted."""
    runs: dict[str, list[float]] = {"plain": [], "accelerated": []}
    report = ""
    for seed in range(repeats + 1):
        plain = post(address, workflow(seed, sampler, None))
        fast = post(address, workflow(seed, sampler, "balanced"))
        report = fast["report"]
        if seed:
            runs["plain"].append(plain["seconds"])
            runs["accelerated"].append(fast["seconds"])
    middle = {name: sorted(each)[len(each) // 2] for name, each in runs.items()}
    ratio = middle["plain"] / middle["accelerated"]
    return {"sampler": sampler, "seconds": middle, "faster": ratio, "report": report}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="*", default=["euler", "dpmpp_2m", "euler_ancestral"])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with server() as address:
        for sampler in arguments.samplers:
            print(json.dumps(compare(address, sampler, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
