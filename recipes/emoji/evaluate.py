"""Measure what an emoji miniature has learned, and draw the model card's grid.

The check asks for 100 emoji by name and looks up, for each result, the nearest training picture:
is it the emoji asked for, and is it at least one of the same subcategory?  Run alone::

    python -m recipes.emoji.evaluate
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from recipes.emoji.data import SUBSETS, Emoji, fetch, fill, load_emoji, load_images
from recipes.shared.options import evaluation_parser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/emoji"
WORK = ROOT / "build/emoji"
STEPS = 50
GUIDANCE = 3.0
BATCH = 25
GRID_PROMPTS = (
    "red apple",
    "green apple",
    "banana",
    "strawberry",
    "watermelon",
    "pineapple",
    "avocado",
    "carrot",
    "hamburger",
    "slice of pizza",
    "doughnut",
    "birthday cake",
    "croissant",
    "sushi",
    "beer mug",
    "hot beverage",
    "cat face",
    "dog face",
    "fox face",
    "panda face",
    "frog face",
    "lion face",
    "unicorn face",
    "penguin",
    "owl",
    "parrot",
    "butterfly",
    "octopus",
    "tropical fish",
    "sunflower",
    "cactus",
    "mushroom",
)


def generate(
    pipeline: DiffusionPipeline, prompts: list[str], seed: int, guidance: float
) -> np.ndarray:
    """One picture for each prompt, each from its own seed: (n, size, size, 3) floats in [0, 1]."""
    pictures = []
    for first in track(range(0, len(prompts), BATCH), description="sampling"):
        part = prompts[first : first + BATCH]
        generators = [torch.Generator().manual_seed(seed + first + i) for i in range(len(part))]
        result = pipeline(
            part,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
        )
        pictures.append(result.images)
    return np.concatenate(pictures)


def nearest(pictures: np.ndarray, emoji: list[Emoji]) -> list[Emoji]:
    """For each picture the training picture at the least Euclidean distance in pixels."""
    table = load_images(emoji).permute(0, 2, 3, 1).flatten(1) / 2 + 0.5
    distances = torch.cdist(torch.from_numpy(pictures).float().flatten(1), table)
    return [emoji[index] for index in distances.argmin(dim=1).tolist()]


def retrieval(pipeline: DiffusionPipeline, emoji: list[Emoji], seed: int, guidance: float) -> dict:
    """The share of prompts whose result is nearest to the right emoji or the right subcategory."""
    asked = random.Random(seed).sample(emoji, min(100, len(emoji)))
    prompts = [fill("{article} {name}", item.name) for item in asked]
    found = nearest(generate(pipeline, prompts, seed + 1000, guidance), emoji)
    pairs = list(zip(asked, found, strict=True))
    return {
        "prompts": len(asked),
        "same_emoji": sum(a == b for a, b in pairs) / len(pairs),
        "same_subcategory": sum(a.subcategory == b.subcategory for a, b in pairs) / len(pairs),
        "steps": STEPS,
        "guidance": guidance,
        "confusions": [f"{a.name} -> {b.name}" for a, b in pairs if a != b],
    }


def draw_grid(
    pictures: np.ndarray, captions: list[str], columns: int = 8, side: int = 128
) -> Image.Image:
    """The pictures enlarged to so many pixels, each above its caption."""
    label = 14
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * side, rows * (side + label)), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(size=11)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = index % columns * side, index // columns * (side + label)
        pixels = Image.fromarray((picture * 255).round().astype(np.uint8))
        grid.paste(pixels.resize((side, side), Image.Resampling.NEAREST), (x, y))
        draw.text((x + side // 2, y + side), caption, fill="black", font=font, anchor="mt")
    return grid


def evaluate(weights: Path, emoji: list[Emoji], seed: int = 0, guidance: float = GUIDANCE) -> dict:
    """Write `grid.png` and `evaluation.json` beside the weights and return the figures."""
    pipeline = DiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    figures = retrieval(pipeline, emoji, seed, guidance)
    (weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    prompts = [fill("{article} {name}", name) for name in GRID_PROMPTS]
    pictures = generate(pipeline, prompts, seed, guidance)
    draw_grid(pictures, list(GRID_PROMPTS)).save(weights / "grid.png", optimize=True)
    return figures


def main() -> None:
    """Evaluate the exported weights from the command line."""
    parser = evaluation_parser(__doc__.splitlines()[0], WEIGHTS, GUIDANCE, threads=2)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--subset", choices=sorted(SUBSETS), default="small")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    emoji = load_emoji(fetch(options.work / "cache"), options.subset)
    print(json.dumps(evaluate(options.weights, emoji, options.seed, options.guidance), indent=2))


if __name__ == "__main__":
    main()
