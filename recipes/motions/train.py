"""Train the motions miniature: paths through rooms with obstacles, by flow matching.

The data come from a planner of our own (`planner.py`), so nothing is downloaded.  One command goes
from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.motions.train
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from adaptive_diffusion.miniatures.motions import Motions, PathDenoiser
from adaptive_diffusion.miniatures.rooms import Rooms
from recipes.motions.evaluate import WEIGHTS, evaluate
from recipes.motions.planner import POINTS, make_data
from recipes.shared.options import add_training_options, denoiser_settings
from recipes.shared.train_denoiser import shuffled_batches, train_denoiser
from recipes.shared.training import (
    count_parameters,
    progress_record,
    record_run,
    seed_everything,
    stratified,
)

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/motions"
ADAMW_NAMES = ("path_in", "path_out", "ends_in", "obstacles_in", "time_in", "feel_in")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=12_000)
    parser.add_argument("--paths-per-room", type=int, default=4)
    add_training_options(
        parser,
        minutes=10,
        batch_size=64,
        workers=1,
        work=WORK,
        output=WEIGHTS,
    )
    return parser.parse_args()


def build_denoiser() -> PathDenoiser:
    """About 0.6 M parameters."""
    return PathDenoiser(points=POINTS, points_per_token=4, width=96, depth=5, heads=4)


def turned(rooms: Rooms, paths: Tensor) -> tuple[Rooms, Tensor]:
    """All of them seen from another side, or in a mirror."""
    axes = torch.eye(2)[torch.randperm(2)] * (2 * torch.randint(2, (2,)) - 1)
    obstacles = torch.cat([rooms.obstacles[..., :2] @ axes, rooms.obstacles[..., 2:]], dim=-1)
    return Rooms(rooms.start @ axes, rooms.goal @ axes, obstacles), paths @ axes


def main() -> None:
    """Read the options, plan paths, train, export, evaluate."""
    options = read_options()
    seed_everything(options.seed)
    rooms, paths = make_data(options.rooms, options.paths_per_room, options.seed)
    denoiser = build_denoiser()
    settings = denoiser_settings(options)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for indices in shuffled_batches(len(paths), settings.batch_size):
            seen, clean = turned(rooms[indices], paths[indices])
            times = stratified(len(clean))
            yield clean, torch.randn_like(clean), times, seen.start, seen.goal, seen.obstacles

    def loss(clean: Tensor, noise: Tensor, times: Tensor, *conditioning: Tensor) -> Tensor:
        noisy = torch.lerp(clean, noise, times[:, None, None])
        return functional.mse_loss(denoiser(noisy, times, *conditioning), noise - clean)

    def export(state: dict) -> None:
        Motions(denoiser).save(options.output)
        run = {
            "rooms": options.rooms,
            "paths": len(paths),
            "seed": options.seed,
            "parameters": count_parameters(denoiser),
            **progress_record(state, "paths"),
        }
        record_run(options.output, {"velocity": state["curve"]}, run)

    checkpoint = options.work / "denoiser.pt"
    train_denoiser(denoiser, loss, batches(), checkpoint, settings, export, ADAMW_NAMES)
    evaluate(options.output)


if __name__ == "__main__":
    main()
