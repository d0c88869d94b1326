"""Rooms with round obstacles, and whether a path through one touches any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rooms"]

_OBSTACLES = 6
_RADII = (0.14, 0.3)
_REACH = 0.9  # how far from the middle starts, goals and centres lie, along either axis
_SHORTEST_WAY = 1.2  # from start to goal
_GAP = 0.12  # between obstacles, and between them and start or goal
_DRAWN = 4096  # rooms drawn at a time, of which a few in a hundred are possible


@dataclass(frozen=True)
class Rooms:
    """B square rooms, in each of which somebody wants to walk from a start to a goal.

    Coordinates run from -1 to 1 along both walls.

    Attributes:
        start: where the walk begins; `(B, 2)`.
        goal: where it is to end; `(B, 2)`.
        obstacles: middle and radius of K discs that are not to be stepped on; `(B, K, 3)`.
    """

    start: Tensor
    goal: Tensor
    obstacles: Tensor

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Tensor | slice) -> Rooms:
        return Rooms(self.start[rows], self.goal[rows], self.obstacles[rows])

    @classmethod
    def random(cls, count: int, seed: int) -> Rooms:
        """Rooms such as the miniature was trained in: six obstacles, with gaps to walk through."""
        generator = torch.Generator().manual_seed(seed)
        found: list[Rooms] = []
        while sum(map(len, found)) < count:
            found.append(_possible(_draw(generator)))
        parts = [(rooms.start, rooms.goal, rooms.obstacles) for rooms in found]
        start, goal, obstacles = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return cls(start, goal, obstacles)[:count]

    def clearance(self, paths: Tensor) -> Tensor:
        """How near each path, `(B, N, 2)` joined by straight lines, comes to an obstacle; `(B,)`.

        Less than zero where it steps on one.
        """
        begin, way = paths[:, :-1, None], paths[:, 1:, None] - paths[:, :-1, None]
        centres, radii = self.obstacles[:, None, :, :2], self.obstacles[:, None, :, 2]
        length = way.square().sum(dim=-1, keepdim=True).clamp(min=1e-12)
        along = ((centres - begin) * way).sum(dim=-1, keepdim=True) / length
        nearest = begin + along.clamp(0, 1) * way
        distances = (centres - nearest).norm(dim=-1) - radii
        return distances.flatten(1).amin(dim=1)


def _draw(generator: torch.Generator) -> Rooms:
    def places(*shape: int) -> Tensor:
        return _REACH * (2 * torch.rand(*shape, 2, generator=generator) - 1)

    smallest, largest = _RADII
    radii = torch.empty(_DRAWN, _OBSTACLES, 1).uniform_(smallest, largest, generator=generator)
    obstacles = torch.cat([places(_DRAWN, _OBSTACLES), radii], dim=-1)
    return Rooms(places(_DRAWN), places(_DRAWN), obstacles)


def _possible(rooms: Rooms) -> Rooms:
    """Those whose start, goal and obstacles stand far enough apart."""
    centres, radii = rooms.obstacles[..., :2], rooms.obstacles[..., 2]
    between = torch.cdist(centres, centres) - radii[:, :, None] - radii[:, None, :]
    between = between + torch.eye(_OBSTACLES) * 1e3  # none is too near to itself
    possible = (rooms.goal - rooms.start).norm(dim=-1) > _SHORTEST_WAY
    possible &= (between > _GAP).all(dim=2).all(dim=1)
    for end in (rooms.start, rooms.goal):
        possible &= ((centres - end[:, None]).norm(dim=-1) - radii > _GAP).all(dim=1)
    return rooms[possible]
