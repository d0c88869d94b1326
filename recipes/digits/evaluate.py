"""Check what the digits miniature has learned, and draw the model card's grid.

A support-vector classifier trained on the real digits judges 500 samples: are they confidently
one digit, and do all ten occur?  Confidence on held-out real digits is the yardstick::

    python -m recipes.digits.evaluate
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/digits"
SAMPLES = 500
STEPS = 50
CONFIDENT = 0.8
"""Probability of the likeliest class from which a label counts as confident."""


def sample(pipeline: DDIMPipeline, count: int, seed: int) -> np.ndarray:
    """Digits as (count, 8, 8) floats in [0, 1]."""
    images = pipeline(
        batch_size=count,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    ).images
    return images[..., 0]


def judge(images: np.ndarray, seed: int) -> dict:
    """The classifier's accuracy and its confidence on held-out real and on generated digits."""
    real, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        real / 16, labels, test_size=0.25, random_state=seed, stratify=labels
    )
    classifier = CalibratedClassifierCV(SVC(gamma=0.5, C=10), ensemble=False).fit(train_x, train_y)
    certainty = classifier.predict_proba(images.reshape(len(images), -1))
    return {
        "samples": len(images),
        "steps": STEPS,
        "classifier_accuracy": float((classifier.predict(test_x) == test_y).mean()),
        "confident_real": float((classifier.predict_proba(test_x).max(1) >= CONFIDENT).mean()),
        "confident_generated": float((certainty.max(1) >= CONFIDENT).mean()),
        "counts": np.bincount(certainty.argmax(1), minlength=10).tolist(),
    }


def draw_grid(images: np.ndarray, columns: int = 16, scale: int = 5) -> Image.Image:
    """The first 64 digits, enlarged, as ink on paper."""
    tiles = np.pad(1 - images[:64], ((0, 0), (1, 1), (1, 1)), constant_values=1.0)
    side = tiles.shape[-1]
    rows = tiles.reshape(-1, columns, side, side).transpose(0, 2, 1, 3)
    grid = Image.fromarray((rows.reshape(-1, columns * side) * 255).round().astype(np.uint8))
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)


def main() -> None:
    """Write `grid.png` and `evaluation.json` beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = sample(DDIMPipeline.from_pretrained(options.weights), SAMPLES, options.seed)
    figures = judge(images, options.seed)
    (options.weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw_grid(images).save(options.weights / "grid.png", optimize=True)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
