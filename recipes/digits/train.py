"""Train the digits miniature: an unconditional diffusion model of 8x8 hand-written digits.

The data are scikit-learn's bundled digits, so nothing is downloaded.  One command goes from data
to weights::

    python -m recipes.digits.train

The result is an ordinary `DDIMPipeline` folder; `evaluate.py` then checks what it has learned.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from rich.progress import Progress
from sklearn.datasets import load_digits
from torch.nn import functional

from recipes.shared.export import export_run
from recipes.shared.training import LossCurve, count_parameters, seed_everything

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/digits"
WORK = ROOT / "build/digits"


def load_images() -> torch.Tensor:
    """All 1,797 digits as (n, 1, 8, 8) floats in [-1, 1]."""
    pixels = load_digits().images  # integers 0 to 16
    return torch.from_numpy(pixels).float().unsqueeze(1) / 8 - 1


def build_unet() -> UNet2DModel:
    """About 0.7 M parameters; attention at 4x4 is enough to make the strokes agree."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Unclipped, so that the denoiser's trajectory stays smooth from one step to the next."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def learning_rate(progress: float, peak: float) -> float:
    """Warm up over the first 3 % of the budget, then follow a cosine to zero."""
    if progress < 0.03:
        return peak * progress / 0.03
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def train(
    unet: UNet2DModel,
    scheduler: DDIMScheduler,
    images: torch.Tensor,
    *,
    minutes: float,
    batch_size: int,
    peak_lr: float,
) -> tuple[list[float], int]:
    """Train for a wall-clock budget, leave the averaged weights in `unet`.

    Returns the loss curve and the number of steps taken.
    """
    optimizer = torch.optim.AdamW(unet.parameters(), lr=0.0, weight_decay=0.01, fused=True)
    average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    curve, step = LossCurve(), 0
    start = time.monotonic()
    with Progress() as progress_bar:
        task = progress_bar.add_task("digits", total=1.0)
        while (progress := (time.monotonic() - start) / (minutes * 60)) < 1:
            optimizer.param_groups[0]["lr"] = learning_rate(progress, peak_lr)
            clean = images[torch.randint(len(images), (batch_size,))]
            noise = torch.randn_like(clean)
            timesteps = torch.randint(scheduler.config.num_train_timesteps, (batch_size,))
            noisy = scheduler.add_noise(clean, noise, timesteps)
            loss = functional.mse_loss(unet(noisy, timesteps).sample, noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            average.step(unet.parameters())
            step += 1
            if curve.add(loss.item()):
                progress_bar.update(
                    task,
                    completed=progress,
                    description=f"digits {step} loss {curve.points[-1]:.4f}",
                )
    average.copy_to(unet.parameters())
    return curve.points, step


def main() -> None:
    """Read the options, train, save weights, loss curve and the run's figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="wall-clock training budget")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=WORK, help="what is prepared")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    unet, scheduler = build_unet(), build_scheduler()
    curve, steps = train(
        unet,
        scheduler,
        load_images(),
        minutes=options.minutes,
        batch_size=options.batch_size,
        peak_lr=options.lr,
    )
    run = {
        "parameters": count_parameters(unet),
        "minutes": options.minutes,
        "steps": steps,
        "images_seen": steps * options.batch_size,
        "final_loss": round(curve[-1], 4) if curve else None,
        "seed": options.seed,
    }
    export_run(DDIMPipeline(unet=unet, scheduler=scheduler), options, {"noise": curve}, run)


if __name__ == "__main__":
    main()
