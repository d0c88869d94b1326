"""A yardstick for skipped calls: how far half precision alone leads from the full run.

    python benchmarks/half_precision.py

Every miniature makes its samples in full in float32. These are the reference. Then it makes the
same samples in full in bfloat16 and in float16, and in float32 with skipped calls: error control at
the named tolerances, and half of the calls by the published profile, where there is one for that
guidance. The noise is the same in all of them, but for its rounding.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

import adaptive_diffusion as ad
from adaptive_diffusion.apps.bench.summary import worst_tenth
from adaptive_diffusion.apps.closeness import IDENTICAL_DB, closeness
from adaptive_diffusion.apps.environment import describe_device
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.miniatures import ARGUMENTS, PROMPTS, pipeline_miniatures
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.policies.error_controlled import QUALITIES

STEPS = 50
BATCH = 8
SEED = 300  # of the first sample; those of the tables begin at 0


@dataclass(frozen=True)
class Cell:
    """A model, its guidance scale, and whether it is given prompts."""

    model: str
    guidance: float | None = None
    prompted: bool = True

    @property
    def name(self) -> str:
        guidance = "" if self.guidance is None else f", guidance {self.guidance:g}"
        return self.model + guidance + ("" if self.prompted else ", no prompt")

    def samples(self, count: int) -> list[Sample]:
        prompts = PROMPTS.get(self.model, (None,)) if self.prompted else ("",)
        return [Sample(prompts[i % len(prompts)], SEED + i) for i in range(count)]


CELLS = (
    Cell("scenes", 7.5),
    Cell("scenes", 4.0),
    Cell("scenes", 1.0),
    Cell("sounds", 2.5),
    Cell("digits"),
    Cell("emoji", 1.0, prompted=False),
    Cell("emoji-dit", 1.0, prompted=False),
    Cell("motion", 3.0),
    Cell("motion-dit", 3.0),
    Cell("emoji", 3.0),
    Cell("emoji-dit", 3.0),
)


def study(cell: Cell, count: int) -> Iterator[dict]:
    """One row for every way to make the samples; a way that fails says why."""
    samples, single = cell.samples(count), sampler(cell, "float32")
    full, _ = make(single, samples)
    for dtype in ("bfloat16", "float16"):
        try:
            made = make(sampler(cell, dtype), samples)
        except TypeError as error:
            yield {"cell": cell.name, "way": dtype, "error": str(error)}
        else:
            yield {"cell": cell.name, "way": dtype} | compare(*made, full)
    for way, policy in policies(cell):
        made = make(single, samples, policy)
        yield {"cell": cell.name, "way": way} | compare(*made, full)


def policies(cell: Cell) -> Iterator[tuple[str, Policy]]:
    for quality, tolerance in QUALITIES.items():
        yield quality, ad.ErrorControlled(tolerance)
    try:
        profile = ad.Profile.from_pretrained(pipeline_miniatures()[cell.model], steps=STEPS)
    except ProfileError:
        return  # none was published
    if cell.guidance == profile.guidance:
        yield "measured plan", profile.policy(nfe=STEPS // 2)


def sampler(cell: Cell, dtype: str) -> Sampler:
    pipe = load_pipeline(cell.model, LoadOptions(device="cpu", dtype=dtype))
    arguments = ARGUMENTS.get(cell.model, {})
    return Sampler(pipe, Settings(STEPS, cell.guidance, arguments=arguments))


def make(
    sampler: Sampler, samples: Sequence[Sample], policy: Policy | None = None
) -> tuple[list[Medium], float]:
    """The samples, and the mean number of denoiser evaluations of one."""
    made: list[Medium] = []
    masks: list[list[bool]] = []
    for start in range(0, len(samples), BATCH):
        batch = sampler.run(samples[start : start + BATCH], policy)
        assert batch.made is not None
        made += batch.made
        masks += batch.masks
    return made, fmean(map(sum, masks))


def compare(made: Sequence[Medium], nfe: float, full: Sequence[Medium]) -> dict[str, float]:
    pairs = zip(made, full, strict=True)
    decibels = [min(closeness(one, other)[0], IDENTICAL_DB) for one, other in pairs]
    return {
        "nfe": round(nfe, 1),
        "psnr_db": round(fmean(decibels), 1),
        "worst_tenth_db": round(worst_tenth(decibels), 1),
        "worst_db": round(min(decibels), 1),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints each row, and leaves `half-precision.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--out", type=Path, default=Path("out/half-precision"))
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    for cell in CELLS:
        if options.models is None or cell.model in options.models:
            for row in study(cell, options.samples):
                print(row, flush=True)
                rows.append(row)
    result = {
        "samples": options.samples,
        "steps": STEPS,
        "device": describe_device(torch.device("cpu")),
        "torch": torch.__version__,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "half-precision.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
