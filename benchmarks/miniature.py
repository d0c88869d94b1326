"""Fidelity and cost of every method on the miniatures, side by side in one run.

    python benchmarks/miniature.py --out out/bench

Every row is measured against the same model's own full run with the same seed: PSNR in float on
decoded outputs (mean, mean of the worst tenth, worst), SSIM, and the wall-clock time of calls of
one sample, taken in alternation with the full run's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

import adaptive_diffusion as ad
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings
from adaptive_diffusion.miniatures import GUIDANCE

PROMPTS = Path(__file__).parents[1].joinpath("examples/prompts.txt").read_text().splitlines()


def rows(steps: int) -> Iterator[tuple[str, int, ad.Policy | None]]:
    """Name, number of steps and policy of every way to run the model."""
    yield "full run", steps, None
    for fewer in (25, 20, 16, 12):
        yield "fewer steps", fewer, None
    for threshold in (0.003, 0.01, 0.03, 0.1):
        yield f"third-order, threshold {threshold}", steps, ad.ThirdOrder(threshold)
    for every in (2, 3, 4):
        mask = [step % every == 0 or step == steps - 1 for step in range(steps)]
        reuse = ad.FixedSchedule(mask, extrapolates=False, backfill=False)
        yield f"every {every}., reuse", steps, reuse
        yield f"every {every}., linear forecast", steps, ad.FixedSchedule(mask, backfill=False)
        yield f"every {every}., forecast and backfill", steps, ad.FixedSchedule(mask)
    for tolerance in (0.0025, 0.005, 0.01, 0.02, 0.04):
        policy = ad.ErrorControlled(tolerance)
        yield f"error-controlled, tolerance {tolerance}", steps, policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--samples", type=int, default=len(PROMPTS))
    parser.add_argument("--models", nargs="+", default=["emoji", "digits"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables = []
    for model in arguments.models:
        results = measure(model, arguments.steps, arguments.samples)
        tables.append(markdown(model, arguments.steps, arguments.samples, results))
        document = {
            "model": model,
            "steps": arguments.steps,
            "samples": arguments.samples,
            "device": describe_device(torch.device("cpu")),
            "versions": versions(),
            "rows": results,
        }
        (arguments.out / f"{model}.json").write_text(json.dumps(document, indent=1) + "\n")
    (arguments.out / "table.md").write_text("\n\n".join(tables) + "\n")
    print("\n\n".join(tables))


def measure(model: str, steps: int, count: int) -> list[dict]:
    """Runs every row for every sample, interleaved."""
    pipe = ad.load_miniature(model)
    pipe.set_progress_bar_config(disable=True)
    sampler = Sampler(pipe, Settings(steps, GUIDANCE.get(model)))
    prompts = PROMPTS[:count] if sampler.is_conditional else []
    samples = sampler.plan(prompts, 1 if prompts else count, seed=0)
    sampler.run(samples[:1])  # warms up
    variants = list(rows(steps))
    results: list[dict] = [
        {"name": name, "nfe": [], "seconds": [], "psnr_db": [], "ssim": []}
        for name, _, _ in variants
    ]
    for sample in samples:
        reference = None
        for (_, row_steps, policy), result in zip(variants, results, strict=True):
            image, nfe, seconds = run(sampler, sample, row_steps, policy)
            if reference is None:
                reference = image
            result["nfe"].append(nfe)
            result["seconds"].append(seconds)
            result["psnr_db"].append(min(120.0, ad.psnr(image, reference).item()))
            if min(image.shape[-2:]) >= 11:
                result["ssim"].append(ad.ssim(image, reference).item())
    return results


def run(
    sampler: Sampler, sample: Sample, steps: int, policy: ad.Policy | None
) -> tuple[torch.Tensor, int, float]:
    """The picture `(1, C, H, W)`, its NFE, and the seconds of a call without decoding."""
    seconds = sampler.run([sample], policy, steps=steps, decode=False).seconds
    batch = sampler.run([sample], policy, steps=steps)
    assert batch.images is not None
    return torch.from_numpy(batch.images).movedim(-1, 1), sum(batch.masks[0]), seconds


def markdown(model: str, steps: int, count: int, results: list[dict]) -> str:
    """One table."""
    full = results[0]
    lines = [
        f"`{model}`, {steps} steps of its default scheduler, {count} samples",
        "",
        "| method | NFE | fewer calls | faster | PSNR mean / worst tenth / worst (dB) | SSIM |",
        "|---|---|---|---|---|---|",
    ]
    for row in results[1:]:
        ordered = sorted(row["psnr_db"])
        tenth = statistics.fmean(ordered[: max(1, round(len(ordered) / 10))])
        psnr = f"{statistics.fmean(ordered):.1f} / {tenth:.1f} / {ordered[0]:.1f}"
        fewer = sum(full["nfe"]) / sum(row["nfe"])
        faster = sum(full["seconds"]) / sum(row["seconds"])
        ssim = f"{statistics.fmean(row['ssim']):.4f}" if row["ssim"] else "–"
        nfe = statistics.fmean(row["nfe"])
        lines.append(
            f"| {row['name']} | {nfe:.1f} | {fewer:.2f}× | {faster:.2f}× | {psnr} | {ssim} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
