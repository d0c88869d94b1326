"""Say what is to be seen in a clip: the subject and the motion of the nearest real clip.

Of every subject with every motion some clips are rendered from beginnings of their own, the pairs
held out included.  Two clips are near when five of their frames, at a quarter of the size, differ
little in their pixels: where the subject is counts for much, fine detail for nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recipes.motion.data import MOTIONS, SUBJECTS, captions, draw_start, render

PAIRS = [(subject, motion) for subject in SUBJECTS for motion in MOTIONS]
EACH = 32
LOOKS = 5
"""Frames that are compared, evenly spread."""
SHRINK = 4


def draw_clips(
    sprites: Tensor, pairs: list[tuple[str, str]], each: int, frames: int, seed: int
) -> Tensor:
    """For each pair so many clips, one after the other: `(pairs * each, frames, 3, 32, 32)`.

    Args:
        sprites: in the order of `SUBJECTS`.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [
            render(sprites[SUBJECTS.index(subject)], motion, draw_start(generator), frames)
            for subject, motion in pairs
            for _ in range(each)
        ]
    )


class Judge:
    """The real clips that others are compared with."""

    def __init__(self, sprites: Tensor, frames: int, seed: int = 2024) -> None:
        self._looks = _looks(draw_clips(sprites, PAIRS, EACH, frames, seed))

    def __call__(self, clips: Tensor) -> list[tuple[str, str]]:
        """Subject and motion of each of the clips, `(n, frames, 3, 32, 32)` in [-1, 1]."""
        found = torch.cdist(_looks(clips), self._looks).argmin(dim=1) // EACH
        return [PAIRS[index] for index in found.tolist()]


def shares(asked: list[tuple[str, str]], found: list[tuple[str, str]]) -> dict[str, float]:
    """How many of the clips show the subject, the motion and both that were asked for."""
    both = list(zip(asked, found, strict=True))
    return {
        "clips": len(both),
        "subject": sum(a[0] == f[0] for a, f in both) / len(both),
        "motion": sum(a[1] == f[1] for a, f in both) / len(both),
        "both": sum(a == f for a, f in both) / len(both),
    }


def verdicts(asked: list[tuple[str, str]], found: list[tuple[str, str]]) -> dict[str, Any]:
    """The shares that are right, and what was taken for what."""
    return shares(asked, found) | {
        "confusions": [
            f"{captions(*a)[0]} -> {captions(*f)[0]}"
            for a, f in zip(asked, found, strict=True)
            if a != f
        ]
    }


def _looks(clips: Tensor) -> Tensor:
    """What is compared of each clip, as one row."""
    chosen = torch.linspace(0, clips.shape[1] - 1, LOOKS).round().long()
    return functional.avg_pool2d(clips[:, chosen].flatten(0, 1), SHRINK).view(len(clips), -1)
