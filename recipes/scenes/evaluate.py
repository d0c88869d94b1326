"""Measure what the scenes miniature has learned and how hard it is, and draw the card's grid.

Three things are looked at: whether the things that a caption names are there (see
`recipes.scenes.judge`), whether pictures are copies of training pictures, and how much of a picture
is decided by chance: how far two seeds are apart, and how much fewer steps change.  Run alone::

    python -m recipes.scenes.evaluate
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from rich.progress import track
from torch import Tensor

from adaptive_diffusion import psnr
from adaptive_diffusion.miniatures import clean_sample, patches  # noqa: F401  weights name them
from recipes.emoji.evaluate import draw_grid
from recipes.scenes.data import draw_pictures, named
from recipes.scenes.drawing import SIZE
from recipes.scenes.judge import Judge, load_judge
from recipes.scenes.model import TEXT_TOKENS
from recipes.shared.options import evaluation_parser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/scenes"
WORK = ROOT / "build/scenes"
STEPS, FEWER_STEPS = 50, 25
GUIDANCE = 7.5
BATCH = 16
TRAINING_SEED = 0
FRESH_SEED = 9
"""Of captions and drawings that neither the miniature nor the judge has been trained on."""
NEIGHBOURS = 20_000
JUDGE_PICTURES = 16_000
GRID_CAPTIONS = (
    "a red ball",
    "a cat and a star",
    "a blue house",
    "a heart at night",
    "a boat at sea",
    "a tree on grass",
    "a pink fish",
    "a box on a carpet",
)
GRID_SEEDS = 4


def generate(
    pipeline: StableDiffusion3Pipeline,
    prompts: list[str],
    first_seed: int,
    guidance: float,
    steps: int = STEPS,
) -> Tensor:
    """One picture for each prompt, each from its own seed: `(n, 48, 48, 3)` in [0, 1]."""
    pictures = []
    for first in track(range(0, len(prompts), BATCH), description=f"sampling, {steps} steps"):
        part = prompts[first : first + BATCH]
        seeds = range(first_seed + first, first_seed + first + len(part))
        result = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=TEXT_TOKENS,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        pictures.append(torch.from_numpy(result.images))
    return torch.cat(pictures)


def spread(values: Tensor) -> dict[str, float]:
    """Mean, worst tenth (its mean) and worst of some decibels."""
    ordered = values.sort().values
    tenth = ordered[: math.ceil(len(values) / 10)]
    return {
        "mean": round(values.mean().item(), 2),
        "worst_tenth": round(tenth.mean().item(), 2),
        "worst": round(ordered[0].item(), 2),
    }


def hardness(full: Tensor, fewer: Tensor, other_seed: Tensor) -> dict[str, Any]:
    """Decibels that fewer steps keep, and that lie between two seeds of one caption."""
    return {
        f"{FEWER_STEPS}_of_{STEPS}_steps_db": spread(psnr(fewer, full)),
        "two_seeds_db": spread(psnr(other_seed, full)),
    }


def recognition(judge: Judge, pictures: Tensor, captions: list[str]) -> dict[str, float]:
    """The share of pictures in which all the things of their caption are found.

    Beside it the share for the caption of another picture: what the judge finds by mistake or by
    chance.
    """
    inputs = pictures.permute(0, 3, 1, 2) * 2 - 1
    asked = [named(text) for text in captions]
    right, wrong = judge.finds(inputs, asked), judge.finds(inputs, asked[1:] + asked[:1])
    return {
        "its_caption": round(sum(right) / len(right), 3),
        "another_caption": round(sum(wrong) / len(wrong), 3),
    }


def nearest(pictures: Tensor, table: Tensor) -> Tensor:
    """PSNR in dB of each picture to the nearest in the table, both `(n, 48, 48, 3)`, in [0, 1]."""
    distances = torch.cdist(pictures.flatten(1), table.flatten(1)).amin(dim=1)
    return 10 * torch.log10(pictures[0].numel() / distances.square())


def copies(pictures: Tensor, neighbours: int) -> dict[str, Any]:
    """How near the nearest training pictures are, to these pictures and to fresh drawings."""
    pieces = []
    fresh = draw_pictures(FRESH_SEED, len(pictures))[0] / 255
    for first in track(range(0, neighbours, 1000), description="drawing neighbours"):
        table = draw_pictures(TRAINING_SEED, min(1000, neighbours - first), first)[0] / 255
        pieces.append(torch.stack([nearest(pictures, table), nearest(fresh, table)]))
    best = torch.stack(pieces).amax(dim=0)
    return {
        "training_pictures": neighbours,
        "nearest_db": _nearness(best[0]),
        "nearest_to_fresh_drawings_db": _nearness(best[1]),
    }


def _nearness(decibels: Tensor) -> dict[str, float]:
    return {"mean": round(decibels.mean().item(), 2), "most": round(decibels.max().item(), 2)}


def draw_card_grid(pipeline: StableDiffusion3Pipeline, seed: int, guidance: float) -> Image.Image:
    """Each caption in a column, with a seed of its own in each row."""
    prompts = [text for _ in range(GRID_SEEDS) for text in GRID_CAPTIONS]
    pictures = generate(pipeline, prompts, seed, guidance)
    return draw_grid(
        pictures.numpy().astype(np.float32), prompts, len(GRID_CAPTIONS), side=2 * SIZE
    )


def evaluate(
    weights: Path,
    judge_file: Path,
    seed: int = 0,
    guidance: float = GUIDANCE,
    pictures: int = 200,
    neighbours: int = NEIGHBOURS,
) -> dict:
    """Write `grid.png` and `evaluation.json` beside the weights and return the figures."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    judge = load_judge(judge_file, JUDGE_PICTURES)
    drawn, captions, _ = draw_pictures(FRESH_SEED, pictures)
    full = generate(pipeline, captions, seed, guidance)
    figures = {
        "pictures": pictures,
        "guidance": guidance,
        "steps": STEPS,
        "things_found": recognition(judge, full, captions),
        "things_found_in_drawings": recognition(judge, drawn / 255, captions),
        **hardness(
            full,
            generate(pipeline, captions, seed, guidance, FEWER_STEPS),
            generate(pipeline, captions, seed + 10_000, guidance),
        ),
        **copies(full, neighbours),
    }
    (weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    grid = draw_card_grid(pipeline, seed, guidance).quantize(256)  # a third of the size
    grid.save(weights / "grid.png", optimize=True)
    return figures


def main() -> None:
    """Evaluate the exported weights from the command line."""
    parser = evaluation_parser(__doc__.splitlines()[0], WEIGHTS, GUIDANCE)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--neighbours", type=int, default=NEIGHBOURS)
    parser.add_argument("--judge", type=Path, default=WORK / "judge.pt", help="made if missing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = evaluate(
        options.weights,
        options.judge,
        options.seed,
        options.guidance,
        options.pictures,
        options.neighbours,
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
