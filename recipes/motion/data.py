"""The data: emoji that move over a white ground, and the phrases that say how.

A clip has 16 frames of 32x32 pixels. Each way to move is a function of the time, from 0 at the
first frame to 1 at the last, that says where the sprite stands, how large, turned and visible it
is; where and how large it begins is drawn anew for every clip, so that one caption has many clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from recipes.emoji.data import Emoji, fill, load_emoji

FRAMES = 16
FRAME_SIZE = 32
SPRITE_SHARE = 0.6
"""Of the frame's side, the sprite's at scale 1."""
SUBJECTS = (
    "red apple",
    "lemon",
    "strawberry",
    "carrot",
    "doughnut",
    "frog face",
    "panda face",
    "fox face",
    "baby chick",
    "octopus",
    "soccer ball",
    "rocket",
)
TEMPLATES = ("{article} {name} {motion}", "{name} {motion}")


@dataclass(frozen=True)
class Start:
    """How a clip begins: the sprite's middle, in half sides of the frame from its middle (right and
    down are positive), and its scale."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Pose:
    """How the sprite stands in one frame: like `Start`, turned clockwise in turns, and visible
    between 0 and 1."""

    x: float
    y: float
    scale: float
    turn: float = 0.0
    opacity: float = 1.0


def _left(start: Start, time: float) -> Pose:
    return Pose(0.5 - time + 0.2 * start.x, start.y, start.scale)


def _right(start: Start, time: float) -> Pose:
    return Pose(time - 0.5 + 0.2 * start.x, start.y, start.scale)


def _rising(start: Start, time: float) -> Pose:
    return Pose(start.x, 0.5 - time + 0.2 * start.y, start.scale)


def _falling(start: Start, time: float) -> Pose:
    return Pose(start.x, time - 0.5 + 0.2 * start.y, start.scale)


def _bouncing(start: Start, time: float) -> Pose:
    return Pose(start.x, 0.5 - abs(math.sin(2 * math.pi * time)), start.scale)


def _spinning(start: Start, time: float) -> Pose:
    return Pose(start.x, start.y, start.scale, turn=time)


def _growing(start: Start, time: float) -> Pose:
    return Pose(0.5 * start.x, 0.5 * start.y, start.scale * (0.5 + 1.1 * time))


def _shrinking(start: Start, time: float) -> Pose:
    return Pose(0.5 * start.x, 0.5 * start.y, start.scale * (1.6 - 1.1 * time))


def _fading(start: Start, time: float) -> Pose:
    return Pose(start.x, start.y, start.scale, opacity=1 - time)


def _bouncing_left(start: Start, time: float) -> Pose:
    return Pose(_left(start, time).x, _bouncing(start, time).y, start.scale)


def _bouncing_right(start: Start, time: float) -> Pose:
    return Pose(_right(start, time).x, _bouncing(start, time).y, start.scale)


MOTIONS: dict[str, Callable[[Start, float], Pose]] = {
    "moving to the left": _left,
    "moving to the right": _right,
    "rising": _rising,
    "falling": _falling,
    "bouncing": _bouncing,
    "bouncing to the left": _bouncing_left,
    "bouncing to the right": _bouncing_right,
    "spinning": _spinning,
    "growing": _growing,
    "shrinking": _shrinking,
    "fading away": _fading,
}


HELD_OUT = (
    ("lemon", "rising"),
    ("strawberry", "bouncing to the left"),
    ("frog face", "spinning"),
    ("panda face", "moving to the right"),
    ("fox face", "growing"),
    ("octopus", "falling"),
    ("soccer ball", "shrinking"),
    ("rocket", "fading away"),
)
"""Subjects with motions that no model is trained on: does it put together what it knows apart?"""


def training_pairs() -> list[tuple[str, str]]:
    """Every subject with every motion, but for those held out."""
    pairs = [(subject, motion) for subject in SUBJECTS for motion in MOTIONS]
    return [pair for pair in pairs if pair not in HELD_OUT]


def load_subjects(package: Path) -> list[Emoji]:
    """The emoji that move, in the order of `SUBJECTS`."""
    by_name = {emoji.name: emoji for emoji in load_emoji(package, "all")}
    return [by_name[name] for name in SUBJECTS]


def load_sprites(subjects: list[Emoji]) -> Tensor:
    """Their pictures, `(n, 4, 64, 64)` floats in [0, 1]; colours are weighted by the opacity."""
    layers = [np.asarray(Image.open(emoji.image).convert("RGBA")) for emoji in subjects]
    sprites = torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).float() / 255
    sprites[:, :3] *= sprites[:, 3:]
    return sprites


def captions(subject: str, motion: str) -> list[str]:
    """Every way to say what is to be seen."""
    article = fill("{article}", subject)
    return [each.format(article=article, name=subject, motion=motion) for each in TEMPLATES]


def draw_start(generator: torch.Generator) -> Start:
    """A beginning from which every motion stays in sight."""
    x, y, scale = torch.rand(3, generator=generator).tolist()
    return Start(0.6 * x - 0.3, 0.6 * y - 0.3, 0.8 + 0.3 * scale)


def render(sprite: Tensor, motion: str, start: Start, frames: int = FRAMES) -> Tensor:
    """A clip: `(frames, 3, 32, 32)` floats in [-1, 1], where white is 1."""
    move = MOTIONS[motion]
    poses = [move(start, frame / (frames - 1)) for frame in range(frames)]
    grid = functional.affine_grid(
        torch.tensor([_frame_to_sprite(pose) for pose in poses]),
        [frames, 4, 2 * FRAME_SIZE, 2 * FRAME_SIZE],
        align_corners=False,
    )
    layers = functional.grid_sample(sprite.expand(frames, -1, -1, -1), grid, align_corners=False)
    layers = functional.avg_pool2d(layers, 2)  # drawn twice as large, for smooth edges
    layers = layers * torch.tensor([pose.opacity for pose in poses])[:, None, None, None]
    return 2 * (layers[:, :3] + 1 - layers[:, 3:]) - 1


def _frame_to_sprite(pose: Pose) -> list[list[float]]:
    """The affine map from the frame's coordinates to the sprite's, both from -1 to 1."""
    size = SPRITE_SHARE * pose.scale
    cos, sin = math.cos(2 * math.pi * pose.turn) / size, math.sin(2 * math.pi * pose.turn) / size
    return [
        [cos, sin, -cos * pose.x - sin * pose.y],
        [-sin, cos, sin * pose.x - cos * pose.y],
    ]
