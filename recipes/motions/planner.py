"""The data: paths by elastic bands (Quinlan & Khatib, ICRA 1993), several for every room.

A path begins as a line from start to goal with a random bend.  Round after round its points are
pushed out of the obstacles and pulled together as if they hung on a rubber band.  It is stopped
while some of the bend is left: so no two are alike, and which side of an obstacle a path passes,
and how wide, was decided by chance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptive_diffusion.miniatures.rooms import Rooms

POINTS = 32
ROUNDS = 60
TENSION = 2.0
BEND = 0.8
"""Spread of the slowest wave in the bend; the second and third have a half and a third of it."""
KEPT_DISTANCE = 0.12
"""From obstacles: nearer points are pushed."""
PUSH = 0.7
"""Of the way to that distance, in one round."""
WALL = 0.97
CLEARANCE = 0.03
"""Paths that come nearer to an obstacle are thrown away: they were stuck."""
AT_A_TIME = 2048


def plan(rooms: Rooms, generator: torch.Generator) -> Tensor:
    """One path through each room, `(B, 32, 2)`; some touch an obstacle."""
    paths = _bent_lines(rooms, generator)
    ends = torch.zeros(len(rooms), POINTS - 2, 2)
    ends[:, 0], ends[:, -1] = rooms.start, rooms.goal
    band = _rubber_band()
    for _ in range(ROUNDS):
        inner = _pushed(paths[:, 1:-1], rooms.obstacles)
        inner = band @ (inner + TENSION * ends)
        paths = torch.cat([rooms.start[:, None], inner, rooms.goal[:, None]], dim=1)
    return paths


def make_data(count: int, per_room: int, seed: int) -> tuple[Rooms, Tensor]:
    """The good ones of `per_room` paths through each of `count` random rooms, with their rooms."""
    rooms = Rooms.random(count, seed)[torch.arange(count).repeat_interleave(per_room)]
    generator = torch.Generator().manual_seed(seed)
    parts = [
        plan(rooms[begin : begin + AT_A_TIME], generator)
        for begin in range(0, len(rooms), AT_A_TIME)
    ]
    paths = torch.cat(parts)
    good = rooms.clearance(paths) > CLEARANCE
    return rooms[good], paths[good]


def _bent_lines(rooms: Rooms, generator: torch.Generator) -> Tensor:
    way = torch.linspace(0, 1, POINTS)[:, None]
    straight = torch.lerp(rooms.start[:, None], rooms.goal[:, None], way)
    x, y = (rooms.goal - rooms.start).unbind(dim=1)
    aside = torch.stack([-y, x], dim=1) / torch.hypot(x, y)[:, None]
    waves = torch.arange(1, 4)
    heights = BEND * torch.randn(len(rooms), 3, generator=generator) / waves
    bends = torch.sin(math.pi * way * waves) @ heights[..., None]
    return (straight + bends * aside[:, None]).clamp(-WALL, WALL)


def _rubber_band() -> Tensor:
    """One implicit step of the heat equation between two fixed ends."""
    inner = POINTS - 2
    neighbours = torch.ones(inner - 1).diag(1) + torch.ones(inner - 1).diag(-1)
    return torch.linalg.inv(torch.eye(inner) * (1 + 2 * TENSION) - TENSION * neighbours)


def _pushed(points: Tensor, obstacles: Tensor) -> Tensor:
    outward = points[:, :, None] - obstacles[:, None, :, :2]
    distance = outward.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    missing = (KEPT_DISTANCE + obstacles[:, None, :, 2:] - distance).clamp(min=0)
    return (points + PUSH * (missing * outward / distance).sum(dim=2)).clamp(-WALL, WALL)
