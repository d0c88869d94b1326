"""Rooms are possible, and clearance is what a ruler would say."""

from __future__ import annotations

import math

import pytest
import torch

from adaptive_diffusion.miniatures.rooms import Rooms


def one_room(obstacle: list[float]) -> Rooms:
    return Rooms(
        torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[obstacle]])
    )


def test_random_rooms_can_be_walked_through() -> None:
    rooms = Rooms.random(100, seed=3)
    assert len(rooms) == 100
    assert (rooms.goal - rooms.start).norm(dim=-1).min() > 1
    for end in (rooms.start, rooms.goal):
        standing = end[:, None].expand(-1, 2, -1)
        assert rooms.clearance(standing).min() > 0.1
    centres, radii = rooms.obstacles[..., :2], rooms.obstacles[..., 2]
    gaps = torch.cdist(centres, centres) - radii[:, :, None] - radii[:, None, :]
    assert (gaps + 9 * torch.eye(gaps.shape[1])).min() > 0.1


def test_a_seed_says_which_rooms_and_more_of_them_begin_alike() -> None:
    few, many, others = Rooms.random(3, 5), Rooms.random(300, 5), Rooms.random(3, 6)
    assert torch.equal(few.obstacles, many[:3].obstacles)
    assert not torch.equal(few.obstacles, others.obstacles)


@pytest.mark.parametrize(
    ("obstacle", "expected"),
    [
        ([0.0, 0.5, 0.2], 0.3),  # beside the middle of a line, far from both of its points
        ([0.3, 0.0, 0.2], -0.2),  # the line goes through its middle
        ([1.3, 0.4, 0.1], 0.4),  # beyond the end: the point counts, not the line
    ],
)
def test_clearance_is_measured_from_the_lines_between_points(
    obstacle: list[float], expected: float
) -> None:
    path = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
    assert one_room(obstacle).clearance(path).item() == pytest.approx(expected, abs=1e-6)


def test_clearance_is_that_of_a_very_fine_path() -> None:
    rooms = Rooms.random(20, seed=0)
    paths = 2 * torch.rand(20, 6, 2, generator=torch.Generator().manual_seed(0)) - 1
    way = torch.linspace(0, 1, 400)[:, None]
    fine = torch.lerp(paths[:, :-1, None], paths[:, 1:, None], way).flatten(1, 2)
    offsets = fine[:, :, None] - rooms.obstacles[:, None, :, :2]
    expected = (offsets.norm(dim=-1) - rooms.obstacles[:, None, :, 2]).flatten(1).amin(dim=1)
    clearance = rooms.clearance(paths)
    assert (clearance <= expected + 1e-5).all()
    torch.testing.assert_close(clearance, expected, rtol=0, atol=4e-3)  # half a gap of `fine`


def test_standing_still_has_a_clearance() -> None:
    assert math.isfinite(one_room([0.0, 0.5, 0.2]).clearance(torch.zeros(1, 3, 2)).item())
