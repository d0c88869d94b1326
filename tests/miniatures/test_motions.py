"""The miniature that draws no pictures: it plans paths, and AdaptiveDenoiser makes it faster."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures import miniatures, pipeline_miniatures
from adaptive_diffusion.miniatures.motions import Motions, PathDenoiser, euler
from adaptive_diffusion.miniatures.rooms import Rooms

STEPS = 50
ROOMS = Rooms.random(16, seed=1000)


@pytest.fixture(scope="module")
def motions() -> Motions:
    loaded = ad.load_miniature("motions")
    assert isinstance(loaded, Motions)
    return loaded


@pytest.fixture(scope="module")
def full(motions: Motions) -> torch.Tensor:
    return motions.sample(ROOMS, motions.noise(range(16)), STEPS)


def accelerated(motions: Motions, policy: ad.Policy | None = None) -> tuple[Any, ad.Report]:
    denoise = ad.AdaptiveDenoiser(motions.denoiser, policy, euler(STEPS))
    denoise.start(motions.times(STEPS), motions.schedule(STEPS))
    noise = motions.noise(range(16))
    return motions.sample(ROOMS, noise, STEPS, denoise, denoise.step), denoise.report()


def test_it_is_a_miniature_but_no_pipeline(motions: Motions) -> None:
    assert "motions" in miniatures()
    assert "motions" not in pipeline_miniatures()
    assert {"emoji", "emoji-dit", "digits"} <= set(pipeline_miniatures())
    assert all(weight.dtype == torch.float32 for weight in motions.denoiser.parameters())
    assert not motions.denoiser.training


def test_it_loads_without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("diffusers", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert isinstance(ad.load_miniature("motions"), Motions)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    small = Motions(PathDenoiser(points=8, points_per_token=2, width=16, depth=1, heads=2))
    small.save(tmp_path)
    loaded = Motions.load(tmp_path)
    noise, rooms = small.noise(range(2)), ROOMS[:2]
    expected = small.sample(rooms, noise, 3)
    assert expected.shape == (2, 8, 2)
    torch.testing.assert_close(loaded.sample(rooms, noise, 3), expected, rtol=0, atol=1e-2)


def test_paths_lead_to_the_goal_past_the_obstacles(full: torch.Tensor) -> None:
    """The model card has the exact figures, over more rooms."""
    assert (full[:, 0] - ROOMS.start).norm(dim=-1).mean() < 0.05
    assert (full[:, -1] - ROOMS.goal).norm(dim=-1).mean() < 0.05
    straight = torch.lerp(
        ROOMS.start[:, None], ROOMS.goal[:, None], torch.linspace(0, 1, 32)[:, None]
    )
    free, free_if_straight = (
        (ROOMS.clearance(paths) >= 0).float().mean() for paths in (full, straight)
    )
    assert free > 0.8
    assert free > free_if_straight + 0.2


def test_the_seed_chooses_the_way(motions: Motions) -> None:
    room = ROOMS[torch.zeros(8, dtype=torch.long)]
    paths = motions.sample(room, motions.noise(range(8)), 20)
    again = motions.sample(room[:2], motions.noise([5, 6]), 20)
    torch.testing.assert_close(paths[5:7], again, rtol=0, atol=1e-4)
    assert (paths - paths.mean(dim=0)).norm(dim=-1).mean() > 0.02


def test_the_conditioning_may_hold_any_number_of_obstacles(motions: Motions) -> None:
    rooms = Rooms(ROOMS.start[:2], ROOMS.goal[:2], ROOMS.obstacles[:2, :3])
    assert motions.sample(rooms, motions.noise(range(2)), 2).isfinite().all()


def test_tolerance_zero_is_the_full_run_to_the_bit(motions: Motions, full: torch.Tensor) -> None:
    paths, report = accelerated(motions, ad.ErrorControlled(tolerance=0))
    assert torch.equal(paths, full)
    assert report.nfe == [STEPS] * 16


def test_the_default_keeps_the_paths(motions: Motions, full: torch.Tensor) -> None:
    paths, report = accelerated(motions)
    assert report.nfe_reduction > 2.5
    assert ad.psnr(paths, full, data_range=2.0).mean() > 38
