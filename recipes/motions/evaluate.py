"""Measure what the motions miniature has learned, and draw the model card's grid.

In rooms that it has not seen, the model's paths are held against the planner's::

    python -m recipes.motions.evaluate
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from adaptive_diffusion.miniatures.motions import Motions
from adaptive_diffusion.miniatures.rooms import Rooms
from recipes.motions.planner import make_data

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import Circle

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/motions"
ROOMS = 64
PATHS_PER_ROOM = 16
STEPS = 50
SEED = 1
"""Of the rooms; those to train in have others."""
KINK = math.pi / 3
"""A turn at a point that nobody would take."""
DRAWN_ROOMS, DRAWN_PATHS = 12, 8


def evaluate(folder: Path) -> None:
    """Write `evaluation.json` and `grid.png` beside the weights."""
    motions, rooms = Motions.load(folder), Rooms.random(ROOMS, SEED)
    crowd = rooms[torch.arange(ROOMS).repeat_interleave(PATHS_PER_ROOM)]
    paths = motions.sample(crowd, motions.noise(range(len(crowd))), STEPS)
    planned_in, planned = make_data(ROOMS, PATHS_PER_ROOM, SEED)
    figures = {
        "rooms": ROOMS,
        "paths_per_room": PATHS_PER_ROOM,
        "steps": STEPS,
        "model": measure(crowd, paths),
        "planner": measure(planned_in, planned) | {"kept": len(planned) / len(crowd)},
    }
    (folder / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    draw_grid(rooms, paths.unflatten(0, (ROOMS, PATHS_PER_ROOM)), folder / "grid.png")


def measure(rooms: Rooms, paths: Tensor) -> dict[str, float]:
    """How good the paths are, and how many ways they take."""
    clearance = rooms.clearance(paths)
    to_start = (paths[:, 0] - rooms.start).norm(dim=-1)
    to_goal = (paths[:, -1] - rooms.goal).norm(dim=-1)
    lengths = (paths[:, 1:] - paths[:, :-1]).norm(dim=-1).sum(dim=1)
    straight = (rooms.goal - rooms.start).norm(dim=-1)
    figures = {
        "touch_no_obstacle": (clearance >= 0).float().mean(),
        "deepest_step_into_an_obstacle": (-clearance).clamp(min=0).max(),
        "distance_from_start": to_start.mean(),
        "distance_from_goal": to_goal.mean(),
        "largest_distance_from_goal": to_goal.max(),
        "length_over_straight_line": (lengths / straight).mean(),
        "degrees_turned_per_point": turns(paths).abs().mean().rad2deg(),
        "have_a_kink": (turns(paths).abs().amax(dim=1) > KINK).float().mean(),
        "ways_per_room": ways_per_room(rooms, paths),
    }
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def turns(paths: Tensor) -> Tensor:
    """The angle between each step and the next, `(B, N - 2)`."""
    steps = paths[:, 1:] - paths[:, :-1]
    return _angle(steps[:, :-1], steps[:, 1:])


def ways_per_room(rooms: Rooms, paths: Tensor) -> float:
    """In how many ways, on average, a room's paths pass the obstacles.

    Two paths pass an obstacle on the same side if they see it turn by the same angle.
    """
    offsets = paths[:, :, None] - rooms.obstacles[:, None, :, :2]
    turned = _angle(offsets[:, :-1], offsets[:, 1:]).sum(dim=1)
    straight = _angle(offsets[:, 0], offsets[:, -1])
    sides = ((turned - straight) / (2 * math.pi)).round()
    ways = torch.cat([rooms.start, sides], dim=1)
    return len(ways.unique(dim=0)) / len(rooms.start.unique(dim=0))


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """From one vector to another, between -π and π."""
    cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    return torch.atan2(cross, (first * second).sum(dim=-1))


def draw_grid(rooms: Rooms, paths: Tensor, file: Path) -> None:
    """The first rooms, with paths of the first seeds; `paths` is `(rooms, seeds, N, 2)`."""
    figure, panels = pyplot.subplots(2, DRAWN_ROOMS // 2, figsize=(9, 3.1), layout="constrained")
    for axes, start, goal, obstacles, some in zip(
        panels.flat, rooms.start, rooms.goal, rooms.obstacles, paths, strict=False
    ):
        for x, y, radius in obstacles.tolist():
            axes.add_patch(Circle((x, y), radius, color="0.8"))
        for path in some[:DRAWN_PATHS]:
            axes.plot(*path.T, linewidth=0.8)
        axes.plot(*start, "o", color="black", markersize=3)
        axes.plot(*goal, "*", color="black", markersize=5)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[], yticks=[])
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def main() -> None:
    """Read the options and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    torch.set_num_threads(1)
    evaluate(parser.parse_args().weights)


if __name__ == "__main__":
    main()
