"""Every sampler of ComfyUI, in full and skipped, beside its own caches and fewer steps.

    COMFYUI_PATH=... python benchmarks/comfyui.py --out docs/results

ComfyUI runs headless on the processor, with a miniature as its model: one picture per run, 50
steps. Samplers with guidance of their own (`_cfg_pp`) run at guidance 1.5, as they are meant to be;
the others at the miniature's. An exact number of calls is 15 of 50, and as large a part of other
numbers; with a profile, it is the one published with the miniature, which was measured in
diffusers; multistep samplers also with one that `--multistep` names. EasyCache and LazyCache look
at every number of the latent, because it is so small; their threshold is the largest that makes no
fewer calls than ours do on the first picture, from 0.01 to 1. Half the calls are an exact number,
with the published profile, for samplers of which ours makes more than half. Fewer steps make as
many calls as ours, or one step's more. What the file in the folder has already is not measured
again.
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfyui_headless as headless
import torch
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.apps.closeness import IDENTICAL_DB
from adaptive_diffusion.apps.environment import describe_device
from adaptive_diffusion.miniatures import PROMPTS, miniatures
from adaptive_diffusion.published import FILE

STEPS = 50
THRESHOLDS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
CALLS = 15
PUBLISHED, MULTISTEP = "published", "multistep"  # where a profile is from
HALF = "ours, half the calls, profile"
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, no backfill": {"backfill": False},
    "ours, fast": {"quality": "fast"},
    f"ours, {CALLS} calls": {"calls": CALLS},
    f"ours, {CALLS} calls, profile": {"calls": CALLS, "profile": PUBLISHED},
    f"ours, {CALLS} calls, multistep profile": {"calls": CALLS, "profile": MULTISTEP},
    HALF: {"calls": STEPS // 2, "profile": PUBLISHED},
}
CACHES = ("EasyCache", "LazyCache")
WAYS = (*OURS, *CACHES, "fewer steps")
MULTISTEP_SAMPLERS = (
    "deis",
    "dpmpp_2m",
    "gradient_estimation",
    "ipndm",
    "ipndm_v",
    "lms",
    "res_multistep",
    "uni_pc",
    "uni_pc_bh2",
)
SCHEDULERS = {"scenes": "simple"}  # as workflows for models of flow matching have it
ON_THE_GPU = "_gpu"  # the same samplers, their noise drawn elsewhere


class Bench:
    """A miniature, and the ways to sample with it; one is a profile of a multistep solver."""

    def __init__(self, pictures: int, model: str, multistep: Path | None = None) -> None:
        self.samplers = headless.load().SAMPLER_NAMES
        self.scheduler = SCHEDULERS.get(model, "normal")
        folder = miniatures()[model]
        self._profiles: dict[str, str] = {}
        if (folder / FILE).is_file():
            self._profiles[PUBLISHED] = str(folder)
        if multistep is not None:
            self._profiles[MULTISTEP] = str(multistep)
        self._miniature = headless.Miniature(model)
        self.guidance = self._miniature.guidance
        self._accelerate = headless.nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusion"]().accelerate
        self._pictures = list(enumerate(PROMPTS[model][:pictures]))
        with headless.stood_in():
            import comfy_extras.nodes_easycache as caches
        self._caches = dict(zip(CACHES, (caches.EasyCacheNode, caches.LazyCacheNode), strict=True))

    def sampler(self, name: str, ways: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
        """What one sampler does in these ways; what `row` has already is not measured again."""
        plain = self._miniature.patcher
        full = [self._run(plain, name, each) for each in self._pictures]
        made, calls = zip(*full, strict=True)
        row = {"sampler": name, "calls": _mean(calls)} | row
        if "ours" not in row:
            (zero,) = self._accelerate(plain, "custom", tolerance=0.0)
            row["identical at tolerance 0"] = torch.equal(
                self._run(zero, name, self._pictures[0])[0], made[0]
            )
            (ours,) = self._accelerate(plain, "balanced")
            row["ours"] = self._compare(made, lambda each: self._run(ours, name, each))
            row["note"] = "; ".join(ours.get_attachment("adaptive_diffusion").report.notes)
        for way in self.open_ways(row, ways):
            row[way] = self._way(way, name, made, row)
        return row

    def open_ways(self, row: dict[str, Any], ways: Sequence[str]) -> list[str]:
        """What is still to be measured of a row that has ours."""
        if row["note"].startswith("the sampler ran in full"):
            return []
        return [way for way in ways if way not in row and self._fits(way, row)]

    def _fits(self, way: str, row: dict[str, Any]) -> bool:
        """Whether there is something to measure of this way."""
        if _in_full(row) and "calls" not in OURS.get(way, {}):
            return False  # then only an exact number of calls says more
        if way == HALF and row["ours"]["calls"] <= row["calls"] / 2:
            return False
        profile = OURS.get(way, {}).get("profile")
        if profile == MULTISTEP and row["sampler"] not in MULTISTEP_SAMPLERS:
            return False
        return profile is None or profile in self._profiles

    def _way(
        self, way: str, name: str, made: tuple[Tensor, ...], row: dict[str, Any]
    ) -> dict[str, Any]:
        """What one of the ways does, beside what was measured of ours."""
        plain, steps, found = self._miniature.patcher, STEPS, {}
        if way in OURS:
            settings = {"quality": "balanced"} | OURS[way]
            if "calls" in settings:
                settings["calls"] = round(settings["calls"] * row["calls"] / STEPS)
            if "profile" in settings:
                settings["profile"] = self._profiles[settings["profile"]]
            (patcher,) = self._accelerate(plain, **settings)
        elif way in CACHES:
            try:
                found["threshold"] = self._threshold(
                    self._caches[way], name, row["ours"]["calls of the first"]
                )
            except TypeError as error:  # some samplers break it
                return {"error": str(error)}
            patcher = self._cached(self._caches[way], found["threshold"])
        else:
            patcher = plain
            steps = max(2, math.ceil(row["ours"]["calls"] * STEPS / row["calls"]))
        return self._compare(made, lambda each: self._run(patcher, name, each, steps)) | found

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
        psnr = psnr.clamp(max=IDENTICAL_DB)
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

        return _first(THRESHOLDS, is_dear_enough)


def _first(values: Sequence[float], is_enough: Callable[[float], bool]) -> float:
    """The first that is enough, where all after it are, too; else the last."""
    return values[bisect.bisect_left(values[:-1], True, key=is_enough)]


def _in_full(row: dict[str, Any]) -> bool:
    """Whether our node skips nothing of that sampler."""
    return bool(row["ours"]["calls"] == row["calls"])


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
        '- Fast: the quality "fast", a tolerance of 0.08; ours is "balanced", 0.02.',
        f"- {CALLS} calls: of 50, and as large a part of other numbers. The profile is published "
        "with the miniature and was measured in diffusers, under noise where the sampler adds "
        "some. The multistep profile was measured under DEIS, or under flow matching "
        "DPM-Solver++.",
        "- Half the calls: an exact number, with the published profile; for samplers of which "
        "ours makes more.",
        "- EasyCache and LazyCache: at the largest threshold that makes no fewer calls than ours "
        "on the first picture, or at the smallest tried. They look at every number of the latent.",
        f"- Identical pictures count as {IDENTICAL_DB:g} dB; = is identical in all pictures, and – "
        "is not measured.",
        "",
        "[benchmarks/comfyui.py](../../benchmarks/comfyui.py) makes this page.",
        "",
        "| sampler | calls | " + " | ".join(WAYS) + " |",
        "|---" * (len(WAYS) + 2) + "|",
    ]
    notes = []
    measured = [row for row in result["rows"] if "ours" in row]
    for row in measured:
        cells = [_cell(row.get(way)) for way in WAYS]
        if row.get("note"):
            notes.append(f"- `{row['sampler']}`: {row['note']}.")
        if _in_full(row):
            cells[0] = "in full"
        lines.append(f"| `{row['sampler']}` | {row['calls']:g} | " + " | ".join(cells) + " |")
    exact = [row["identical at tolerance 0"] for row in measured]
    identical = f"{sum(exact)} of {len(exact)} samplers"
    lines += ["", f"At tolerance 0, bit-identical to the plain run: {identical}.", ""]
    return "\n".join([*lines, *notes, ""])


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "–"
    if "error" in entry:
        return "fails"
    identical = entry["worst"] >= IDENTICAL_DB
    psnr = "=" if identical else f"{entry['psnr']:.1f} ({entry['worst']:.1f})"
    return f"{entry['calls']:.3g}: {psnr}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--samplers", nargs="*")
    parser.add_argument("--multistep", type=Path, help="a profile of such a solver")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS, help="ours is always run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.pictures, arguments.model, arguments.multistep)
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
    rows = {row["sampler"]: row for row in result["rows"]}
    for sampler in arguments.samplers or names:
        row = rows.get(sampler, {})
        if "ours" in row and not bench.open_ways(row, arguments.ways):
            continue
        rows[sampler] = bench.sampler(sampler, arguments.ways, row)
        result["rows"] = list(rows.values())
        result["rows"].sort(key=lambda row: names.index(row["sampler"]))
        print(sampler, flush=True)
        begun.write_text(json.dumps(result, indent=1) + "\n")
        begun.with_suffix(".md").write_text(table(result))


if __name__ == "__main__":
    main()
