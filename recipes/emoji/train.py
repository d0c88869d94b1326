"""Train the emoji miniature: a small text-to-image model in Stable Diffusion's own format.

One command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.emoji.train

It fetches the pictures, learns a tokenizer, trains the autoencoder, then the denoiser together
with the text encoder, exporting the averaged weights now and then, and evaluates the result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipes.emoji.data import SUBSETS, fetch, load_emoji, load_images
from recipes.emoji.evaluate import evaluate
from recipes.emoji.model import TextToLatent, build_pipeline
from recipes.emoji.train_vae import (
    build_vae,
    encode_all,
    normalise_latents,
    reconstruction_psnr,
    train_vae,
)
from recipes.shared.export import export_pipeline
from recipes.shared.tokenizer import prepare_tokenizer
from recipes.shared.train_denoiser import Settings
from recipes.shared.train_velocity import train_velocity
from recipes.shared.training import count_parameters, plot_curves, seed_everything

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/emoji"
WORK = ROOT / "build/emoji"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subset", choices=sorted(SUBSETS), default="small")
    parser.add_argument("--vae-minutes", type=float, default=14, help="budget of stage 1")
    parser.add_argument("--vae-batch-size", type=int, default=8)
    parser.add_argument("--vae-lr", type=float, default=4e-3)
    parser.add_argument("--kl-weight", type=float, default=1e-5)
    parser.add_argument("--minutes", type=float, default=41, help="budget of stage 2")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--caption-drop", type=float, default=0.1)
    parser.add_argument("--export-minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="cores to train on")
    parser.add_argument("--work", type=Path, default=WORK, help="cache and checkpoints")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    return parser.parse_args()


def prepare_vae(images: torch.Tensor, options: argparse.Namespace) -> tuple[AutoencoderKL, dict]:
    """Stage 1, with normalised latents; a finished checkpoint is only loaded."""
    vae = build_vae()
    state = train_vae(
        vae,
        images,
        options.work / "vae.pt",
        minutes=options.vae_minutes,
        batch_size=options.vae_batch_size,
        peak_lr=options.vae_lr,
        kl_weight=options.kl_weight,
        workers=options.workers,
    )
    vae.requires_grad_(False)
    normalise_latents(vae, encode_all(vae, images))
    return vae, state


def main() -> None:
    """Run all stages."""
    options = read_options()
    seed_everything(options.seed)

    emoji = load_emoji(fetch(options.work / "cache"), options.subset)
    images = load_images(emoji)
    captions = [item.captions() for item in emoji]
    tokenizer = prepare_tokenizer([c for row in captions for c in row], options.work / "tokenizer")
    vae, vae_state = prepare_vae(images, options)
    psnr = reconstruction_psnr(vae, images)
    print(f"{len(emoji)} emoji, autoencoder {psnr:.2f} dB")

    latents = encode_all(vae, images)
    seed_everything(options.seed + 1)
    model = TextToLatent(tokenizer, latents.shape[1])

    def export(state: dict) -> None:
        """Replace the exported folder by the current average, and the curve and figures by new."""
        pipeline = build_pipeline(vae, model, tokenizer)
        export_pipeline(pipeline, options.output, options.work / "staging")
        curves = {"autoencoder": vae_state["curve"], "denoiser": state["curve"]}
        plot_curves(curves, options.output / "loss.png")
        run = {
            "subset": options.subset,
            "pictures": len(emoji),
            "seed": options.seed,
            "autoencoder": {
                "parameters": count_parameters(vae),
                "minutes": round(vae_state["spent"] / 60, 1),
                "images_seen": vae_state["images_seen"],
                "psnr_db": round(psnr, 2),
            },
            "denoiser": {
                "parameters": count_parameters(model.unet),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                "minutes": round(state["spent"] / 60, 1),
                "images_seen": state["images_seen"],
            },
        }
        (options.output / "training.json").write_text(json.dumps(run, indent=2) + "\n")

    train_velocity(
        model,
        latents,
        captions,
        tokenizer,
        options.work / "unet.pt",
        Settings(
            minutes=options.minutes,
            batch_size=options.batch_size,
            peak_lr=options.lr,
            caption_drop=options.caption_drop,
            export_minutes=options.export_minutes,
            workers=options.workers,
        ),
        export,
    )
    evaluate(options.output, emoji, seed=options.seed)


if __name__ == "__main__":
    main()
