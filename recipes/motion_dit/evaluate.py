"""Measure what the motion-dit miniature has learned, and draw the model card's pictures.

Clips are asked for by caption, and of a still picture and a caption; the nearest real clip tells
what they show (see `recipes.motion.judge`).  Run alone::

    python -m recipes.motion_dit.evaluate
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import LTXImageToVideoPipeline, LTXPipeline
from rich.progress import track
from torch import Tensor

from adaptive_diffusion import psnr
from recipes.emoji.data import fetch
from recipes.motion.data import (
    FRAME_SIZE,
    HELD_OUT,
    captions,
    load_sprites,
    load_subjects,
    training_pairs,
)
from recipes.motion.judge import PAIRS, Judge, draw_clips, shares, verdicts
from recipes.motion.pictures import draw_strips, save_animation
from recipes.motion_dit.model import FRAMES
from recipes.shared.options import evaluation_parser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/motion-dit"
CACHE = ROOT / "build/emoji/cache"
STEPS = 25
GUIDANCE = 3.0
BATCH = 8
FROM_TEXT = (
    ("red apple", "bouncing to the left"),
    ("lemon", "moving to the right"),
    ("carrot", "spinning"),
    ("panda face", "growing"),
    ("rocket", "rising"),
    ("octopus", "fading away"),
    ("baby chick", "falling"),
    ("soccer ball", "bouncing"),
    ("frog face", "spinning"),
    ("strawberry", "bouncing to the left"),
)
"""What the card shows; the last two are among the pairs held out."""
FROM_PICTURE = (
    ("fox face", "spinning"),
    ("fox face", "moving to the left"),
    ("doughnut", "shrinking"),
    ("lemon", "rising"),
)
"""Likewise, from a still picture; the last is held out."""
Pair = tuple[str, str]


def generate(
    pipeline: Any, pairs: list[Pair], seed: int, guidance: float, stills: Tensor | None = None
) -> Tensor:
    """One clip for each pair, each from its own seed: `(n, frames, 3, 32, 32)` in [-1, 1].

    Args:
        stills: the pictures that the clips are to begin with, `(n, 3, 32, 32)` in [-1, 1].
    """
    clips = []
    for first in track(range(0, len(pairs), BATCH), description="sampling"):
        part = pairs[first : first + BATCH]
        begin = {} if stills is None else {"image": stills[first : first + BATCH] / 2 + 0.5}
        result = pipeline(
            prompt=[captions(*pair)[0] for pair in part],
            height=FRAME_SIZE,
            width=FRAME_SIZE,
            num_frames=FRAMES,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed + first + i) for i in range(len(part))],
            output_type="pt",
            **begin,
        )
        clips.append(2 * result.frames.float() - 1)
    return torch.cat(clips)


def kept(clips: Tensor, stills: Tensor) -> dict[str, float]:
    """How close the clips' first frames are to the stills, in decibels of PSNR."""
    values = psnr(clips[:, 0], stills, data_range=2.0)
    return {"mean": round(values.mean().item(), 2), "least": round(values.min().item(), 2)}


def evaluate(
    weights: Path, sprites: Tensor, seed: int = 0, guidance: float = GUIDANCE
) -> dict[str, Any]:
    """Write figures (`evaluation.json`) and pictures beside the weights; return the figures."""
    from_text = LTXPipeline.from_pretrained(weights)
    from_picture = LTXImageToVideoPipeline(**from_text.components)
    for pipeline in (from_text, from_picture):
        pipeline.set_progress_bar_config(disable=True)
    judge = Judge(sprites, FRAMES)
    seen = random.Random(seed).sample(training_pairs(), 48)
    unseen = [pair for pair in HELD_OUT for _ in range(2)]
    real = draw_clips(sprites, PAIRS, 1, FRAMES, seed + 1)
    figures: dict[str, Any] = {
        "steps": STEPS,
        "guidance": guidance,
        "real_clips": shares(PAIRS, judge(real)),
    }
    for name, pairs in (("trained_pairs", seen), ("held_out_pairs", unseen)):
        clips = generate(from_text, pairs, seed + 1000, guidance)
        figures[name] = verdicts(pairs, judge(clips))
    for name, pairs in (("trained_pairs", seen[:24]), ("held_out_pairs", unseen[::2])):
        stills = draw_clips(sprites, pairs, 1, FRAMES, seed + 2)[:, 0]
        clips = generate(from_picture, pairs, seed + 2000, guidance, stills)
        figures[f"from_picture_{name}"] = verdicts(pairs, judge(clips)) | {
            "first_frame_psnr_db": kept(clips, stills)
        }
    (weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw_card(from_text, from_picture, sprites, weights, seed, guidance)
    return figures


def draw_card(
    from_text: LTXPipeline,
    from_picture: LTXImageToVideoPipeline,
    sprites: Tensor,
    folder: Path,
    seed: int,
    guidance: float,
) -> None:
    """Write `grid.png` and `clips.gif`."""
    stills = draw_clips(sprites, list(FROM_PICTURE), 1, FRAMES, seed + 3)[:, 0]
    clips = torch.cat(
        [
            generate(from_text, list(FROM_TEXT), seed + 3000, guidance),
            generate(from_picture, list(FROM_PICTURE), seed + 4000, guidance, stills),
        ]
    )
    labels = [captions(*pair)[0] for pair in FROM_TEXT]
    labels += [f"from a picture: {captions(*pair)[0]}" for pair in FROM_PICTURE]
    draw_strips(clips, labels).save(folder / "grid.png", optimize=True)
    save_animation(clips, folder / "clips.gif", columns=7)


def main() -> None:
    """Evaluate the exported weights from the command line."""
    parser = evaluation_parser(__doc__.splitlines()[0], WEIGHTS, GUIDANCE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sprites = load_sprites(load_subjects(fetch(CACHE)))
    print(json.dumps(evaluate(options.weights, sprites, options.seed, options.guidance), indent=2))


if __name__ == "__main__":
    main()
