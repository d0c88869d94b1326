"""The options that the recipes' commands have in common, each with defaults of its own."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from recipes.shared.training import Settings


def add_autoencoder_options(
    parser: argparse.ArgumentParser, *, minutes: float, batch_size: int, lr: float
) -> None:
    """Those of the stage that trains an autoencoder."""
    parser.add_argument("--vae-minutes", type=float, default=minutes, help="its budget")
    parser.add_argument("--vae-batch-size", type=int, default=batch_size)
    parser.add_argument("--vae-lr", type=float, default=lr, help="its peak learning rate")
    parser.add_argument("--kl-weight", type=float, default=1e-5)


def add_training_options(
    parser: argparse.ArgumentParser,
    *,
    minutes: float,
    batch_size: int,
    workers: int,
    work: Path,
    output: Path,
    export_minutes: float = math.inf,
) -> None:
    """Those of the stage that trains the denoiser, and of the whole run."""
    parser.add_argument("--minutes", type=float, default=minutes, help="the denoiser's budget")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--export-minutes", type=float, default=export_minutes)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=workers, help="cores to train on")
    parser.add_argument("--work", type=Path, default=work, help="checkpoints, and what is prepared")
    parser.add_argument("--output", type=Path, default=output)


def evaluation_parser(
    description: str, weights: Path, guidance: float, threads: int = 1
) -> argparse.ArgumentParser:
    """The options of a command that measures exported weights."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=guidance)
    parser.add_argument("--threads", type=int, default=threads)
    return parser


def autoencoder_settings(options: argparse.Namespace, *, mixed_precision: bool = False) -> Settings:
    """How the autoencoder is to be trained."""
    return Settings(
        minutes=options.vae_minutes,
        batch_size=options.vae_batch_size,
        peak_lr=options.vae_lr,
        workers=options.workers,
        mixed_precision=mixed_precision,
    )


def denoiser_settings(options: argparse.Namespace, *, mixed_precision: bool = False) -> Settings:
    """How the denoiser is to be trained."""
    return Settings(
        minutes=options.minutes,
        batch_size=options.batch_size,
        peak_lr=options.lr,
        workers=options.workers,
        export_minutes=options.export_minutes,
        mixed_precision=mixed_precision,
    )
