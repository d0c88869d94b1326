"""Every sampler of ComfyUI, in full and skipped, beside its own caches and fewer steps.

    COMFYUI_PATH=... python benchmarks/comfyui.py --out docs/results

ComfyUI runs headless on the processor, with a miniature as its model: one picture per run, 50
steps. Samplers with guidance of their own (`_cfg_pp`) run at guidance 1.5, as they are meant to be;
the others at the miniature's. An exact number of calls is 15 of 50, and as large a part of other
numbers; with a profile, it is the one published with the miniature, which was measured in
diffusers. EasyCache and LazyCache look at every number of the latent, because it is so small; their
threshold is the largest that makes no fewer calls than ours do on the first picture, from 0.01 to
1. Fewer steps make as many calls, or one step's more. Samplers that the file in the folder has
already are not run again.
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfyui_headless as headless
import torch
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.apps.environment import describe_device
from adaptive_diffusion.miniatures import PROMPTS, miniatures
from adaptive_diffusion.published import FILE

STEPS = 50
THRESHOLDS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
CALLS = 15
WAYS = (
    "ours",
    "ours, no backfill",
    f"ours, {CALLS} calls",
    f"ours, {CALLS} calls, profile",
    "EasyCache",
    "LazyCache",
    "fewer steps",
)
SCHEDULERS = {"scenes": "simple"}  # as workflows for models of flow matching have it
ON_THE_GPU = "_gpu"  # the same samplers, their noise drawn elsewhere


class Bench:
    """A miniature, and the ways to sample with it."""

    def __init__(self, pictures: int, model: str, with_caches: bool = True) -> None:
        self.samplers = headless.load().SAMPLER_NAMES
        self.scheduler = SCHEDULERS.get(model, "normal")
        folder = miniatures()[model]
        self._profile = str(folder) if (folder / FILE).is_file() else ""
        self._miniature = headless.Miniature(model)
        self.guidance = self._miniature.guidance
        self._accelerate = headless.nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusion"]().accelerate
        self._pictures = list(enumerate(PROMPTS[model][:pictures]))
        with headless.stood_in():
            import comfy_extras.nodes_easycache as caches
        self._caches = {"EasyCache": caches.EasyCacheNode, "LazyCache": caches.LazyCacheNode}
        if not with_caches:
            self._caches = {}

    def sampler(self, name: str) -> dict[str, Any]:
        """What one sampler does in every way."""
        plain = self._miniature.patcher
        full = [self._run(plain, name, each) for each in self._pictures]
        made, calls = zip(*full, strict=True)
        row: dict[str, Any] = {"sampler": name, "calls": _mean(calls)}
        (zero,) = self._accelerate(plain, "custom", tolerance=0.0)
        row["identical at tolerance 0"] = torch.equal(
            self._run(zero, name, self._pictures[0])[0], made[0]
        )
        (ours,) = self._accelerate(plain, "balanced")
        row["ours"] = self._compare(made, lambda each: self._run(ours, name, each))
        row["note"] = "; ".join(ours.get_attachment("adaptive_diffusion").report.notes)
        if row["ours"]["calls"] == row["calls"]:
            return row
        part = round(CALLS * row["calls"] / STEPS)
        settings = [{"backfill": False}, {"calls": part}]
        if self._profile:
            settings.append({"calls": part, "profile": self._profile})
        for way, setting in zip(WAYS[1:4], settings, strict=False):
            (other,) = self._accelerate(plain, "balanced", **setting)
            row[way] = self._compare(made, lambda each, p=other: self._run(p, name, each))
        for cache, node in self._caches.items():
            try:
                threshold = self._threshold(node, name, row["ours"]["calls of the first"])
                cached = self._cached(node, threshold)
                row[cache] = self._compare(made, lambda each, p=cached: self._run(p, name, each))
                row[cache]["threshold"] = threshold
            except TypeError as error:  # some samplers break it
                row[cache] = {"error": str(error)}
        steps = max(2, math.ceil(row["ours"]["calls"] * STEPS / row["calls"]))
        row["fewer steps"] = self._compare(made, lambda each: self._run(plain, name, each, steps))
        return row

    def _run(
        self, patcher: Any, name: str, picture: tuple[int, str], steps: int = STEPS
    ) -> tuple[Tensor, int]:
        """A decoded picture, and how many calls it took."""
        seed, prompt = picture
        self._miniature.denoiser.calls = 0
        guidance = 1.5 if name.endswith("_cfg_pp") else self.guidance
        latent = headless.sample(
            patcher,
            self._miniature,
            name,
            prompt=prompt,
            seeds=[seed],
            steps=steps,
            scheduler=self.scheduler,
            guidance=guidance,
        )
        return self._miniature.pixels(latent).clamp(-1, 1), self._miniature.denoiser.calls

    def _compare(
        self, made: tuple[Tensor, ...], run: Callable[[tuple[int, str]], tuple[Tensor, int]]
    ) -> dict[str, Any]:
        pictures, calls = zip(*(run(each) for each in self._pictures), strict=True)
        psnr = ad.psnr(torch.cat(pictures), torch.cat(made), data_range=2.0)
        return {
            "calls": _mean(calls),
            "calls of the first": calls[0],
            "psnr": float(psnr.mean()),
            "worst": float(psnr.min()),
        }

    def _cached(self, node: Any, threshold: float) -> Any:
        """The model with a cache that looks at every number."""
        (patcher,) = node.execute(self._miniature.patcher, threshold, 0.15, 0.95, False).result
        patcher.model_options["transformer_options"]["easycache"].subsample_factor = 1
        return patcher

    def _threshold(self, node: Any, name: str, calls: int) -> float:
        def is_dear_enough(threshold: float) -> bool:
            return self._run(self._cached(node, threshold), name, self._pictures[0])[1] >= calls

        place = bisect.bisect_left(THRESHOLDS[:-1], True, key=is_dear_enough)
        return THRESHOLDS[place]


def _mean(values: Any) -> float:
    return sum(values) / len(values)


def table(result: dict[str, Any]) -> str:
    """The page that shows the figures."""
    lines = [
        f"# ComfyUI's samplers on `{result['model']}`",
        "",
        f"{result['pictures']} pictures of `{result['model']}` each, {STEPS} steps, scheduler "
        f'"{result["scheduler"]}", ComfyUI {result["comfyui"]} headless on {result["device"]}. '
        "Calls of the model and PSNR to the sampler's own full run in dB, mean (worst), in float "
        "on the decoded picture.",
        "",
        f"- Guidance {result['guidance']:g}; `_cfg_pp` 1.5.",
        f"- {CALLS} calls: of 50, and as large a part of other numbers. The profile is published "
        "with the miniature and was measured in diffusers.",
        "- EasyCache and LazyCache: at the largest threshold that makes no fewer calls than ours "
        "on the first picture, or at the smallest tried. They look at every number of the latent.",
        "- – is not measured.",
        "",
        "[benchmarks/comfyui.py](../../benchmarks/comfyui.py) makes this page.",
        "",
        "| sampler | calls | " + " | ".join(WAYS) + " |",
        "|---" * (len(WAYS) + 2) + "|",
    ]
    notes = []
    for row in result["rows"]:
        cells = [_cell(row.get(way)) for way in WAYS]
        if row["note"]:
            notes.append(f"- `{row['sampler']}`: {row['note']}.")
        if row["ours"]["calls"] == row["calls"]:
            cells = ["in full", *["–"] * (len(WAYS) - 1)]
        lines.append(f"| `{row['sampler']}` | {row['calls']:g} | " + " | ".join(cells) + " |")
    exact = all(row["identical at tolerance 0"] for row in result["rows"])
    lines += ["", f"At tolerance 0 every sampler is bit-identical to its plain run: {exact}.", ""]
    return "\n".join([*lines, *notes, ""])


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "–"
    if "error" in entry:
        return "fails"
    psnr = "=" if math.isinf(entry["psnr"]) else f"{entry['psnr']:.1f} ({entry['worst']:.1f})"
    return f"{entry['calls']:.3g}: {psnr}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--samplers", nargs="*")
    parser.add_argument("--without-caches", action="store_true", help="ours and fewer steps only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.pictures, arguments.model, not arguments.without_caches)
    import comfyui_version

    names = [each for each in bench.samplers if not each.endswith(ON_THE_GPU)]
    result: dict[str, Any] = {
        "model": arguments.model,
        "pictures": arguments.pictures,
        "device": describe_device(torch.device("cpu")),
        "scheduler": bench.scheduler,
        "guidance": bench.guidance,
        "comfyui": comfyui_version.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": [],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "comfyui" if arguments.model == "emoji" else f"comfyui-{arguments.model}"
    begun = arguments.out / f"{name}.json"
    if begun.is_file():
        before = json.loads(begun.read_text())
        if {**before, "rows": []} == result:
            result["rows"] = before["rows"]
    done = {row["sampler"] for row in result["rows"]}
    for sampler in [each for each in arguments.samplers or names if each not in done]:
        result["rows"].append(bench.sampler(sampler))
        result["rows"].sort(key=lambda row: names.index(row["sampler"]))
        print(sampler, flush=True)
        begun.write_text(json.dumps(result, indent=1) + "\n")
        begun.with_suffix(".md").write_text(table(result))


if __name__ == "__main__":
    main()
