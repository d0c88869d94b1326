"""Measure what the motion miniature has learned, and draw the model card's pictures.

Clips are asked for by caption, and the nearest real clip tells what each of them shows (see
`recipes.motion.judge`): is it the subject asked for, and does it move as asked?  Run alone::

    python -m recipes.motion.evaluate
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import TextToVideoSDPipeline
from rich.progress import track
from torch import Tensor

from recipes.emoji.data import fetch
from recipes.motion.data import (
    FRAMES,
    HELD_OUT,
    captions,
    load_sprites,
    load_subjects,
    training_pairs,
)
from recipes.motion.judge import PAIRS, Judge, draw_clips, shares, verdicts
from recipes.motion.pictures import draw_strips, save_animation
from recipes.shared.options import evaluation_parser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/motion"
CACHE = ROOT / "build/emoji/cache"
STEPS = 20
GUIDANCE = 3.0
BATCH = 8
SEEN_PAIRS, HELD_OUT_SEEDS = 48, 2
SHOWN = (
    ("rocket", "rising"),
    ("soccer ball", "bouncing"),
    ("red apple", "bouncing to the left"),
    ("carrot", "spinning"),
    ("fox face", "shrinking"),
    ("octopus", "fading away"),
    ("panda face", "moving to the right"),
    ("strawberry", "bouncing to the left"),
)
"""What the card shows; the last two are among the pairs held out."""


def generate(
    pipeline: TextToVideoSDPipeline, pairs: list[tuple[str, str]], seed: int, guidance: float
) -> Tensor:
    """One clip for each pair, each from its own seed: `(n, 16, 3, 32, 32)` in [-1, 1]."""
    clips = []
    for first in track(range(0, len(pairs), BATCH), description="sampling"):
        part = pairs[first : first + BATCH]
        result = pipeline(
            [captions(*pair)[0] for pair in part],
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed + first + i) for i in range(len(part))],
            output_type="pt",
        )
        clips.append(2 * result.frames - 1)
    return torch.cat(clips)


def evaluate(
    weights: Path, sprites: Tensor, seed: int = 0, guidance: float = GUIDANCE
) -> dict[str, Any]:
    """Write figures (`evaluation.json`) and pictures beside the weights; return the figures."""
    pipeline = TextToVideoSDPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    judge = Judge(sprites, FRAMES)
    seen = random.Random(seed).sample(training_pairs(), SEEN_PAIRS)
    held_out = [pair for pair in HELD_OUT for _ in range(HELD_OUT_SEEDS)]
    figures: dict[str, Any] = {
        "steps": STEPS,
        "guidance": guidance,
        "real_clips": shares(PAIRS, judge(draw_clips(sprites, PAIRS, 1, FRAMES, seed + 1))),
    }
    for name, asked in (("trained_pairs", seen), ("held_out_pairs", held_out)):
        found = judge(generate(pipeline, asked, seed + 1000, guidance))
        figures[name] = verdicts(asked, found)
    (weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw_card(pipeline, weights, seed, guidance)
    return figures


def draw_card(pipeline: TextToVideoSDPipeline, folder: Path, seed: int, guidance: float) -> None:
    """Write `grid.png` and `clips.gif`."""
    clips = generate(pipeline, list(SHOWN), seed + 2000, guidance)
    labels = [captions(*pair)[0] for pair in SHOWN]
    draw_strips(clips, labels).save(folder / "grid.png", optimize=True)
    save_animation(clips, folder / "clips.gif", columns=4)


def main() -> None:
    """Evaluate the exported weights from the command line."""
    parser = evaluation_parser(__doc__.splitlines()[0], WEIGHTS, GUIDANCE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sprites = load_sprites(load_subjects(fetch(CACHE)))
    print(json.dumps(evaluate(options.weights, sprites, options.seed, options.guidance), indent=2))


if __name__ == "__main__":
    main()
