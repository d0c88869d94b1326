"""Train the sounds miniature: text-to-audio in AudioLDM's format.

One command goes from nothing to evaluated weights, and goes on where it stopped if it is
interrupted::

    python -m recipes.sounds.train

It synthesises the sounds, learns a tokenizer, trains the autoencoder, then the denoiser together
with the text encoder, exporting the averaged weights now and then, and evaluates the result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipes.emoji.train_vae import (
    encode_all,
    normalise_latents,
    reconstruction_psnr,
    train_vae,
)
from recipes.shared.export import export_pipeline
from recipes.shared.train_denoiser import Settings
from recipes.shared.train_velocity import train_velocity
from recipes.shared.training import count_parameters, plot_curves, seed_everything
from recipes.sounds.data import SOUNDS, spectrograms
from recipes.sounds.evaluate import WEIGHTS, evaluate
from recipes.sounds.model import TextToLatent, build_pipeline, build_vae
from recipes.sounds.tokenizer import prepare_tokenizer

WORK = Path(__file__).resolve().parents[2] / "build/sounds"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=120, help="renderings of each sound")
    parser.add_argument("--vae-minutes", type=float, default=9, help="budget of stage 1")
    parser.add_argument("--vae-batch-size", type=int, default=8)
    parser.add_argument("--vae-lr", type=float, default=4e-3)
    parser.add_argument("--kl-weight", type=float, default=1e-5)
    parser.add_argument("--minutes", type=float, default=63, help="budget of stage 2")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--caption-drop", type=float, default=0.1)
    parser.add_argument("--export-minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="cores to train on")
    parser.add_argument("--work", type=Path, default=WORK, help="tokenizer and checkpoints")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    return parser.parse_args()


def prepare_vae(pictures: torch.Tensor, options: argparse.Namespace) -> tuple[AutoencoderKL, dict]:
    """Stage 1, with normalised latents; a finished checkpoint is only loaded."""
    vae = build_vae()
    state = train_vae(
        vae,
        pictures,
        options.work / "vae.pt",
        minutes=options.vae_minutes,
        batch_size=options.vae_batch_size,
        peak_lr=options.vae_lr,
        kl_weight=options.kl_weight,
        workers=options.workers,
        mixed_precision=True,
    )
    vae.requires_grad_(False)
    normalise_latents(vae, encode_all(vae, pictures))
    return vae, state


def main() -> None:
    """Run all stages."""
    options = read_options()
    seed_everything(options.seed)

    every_caption = [caption for sound in SOUNDS for caption in sound.captions()]
    tokenizer = prepare_tokenizer(every_caption, options.work / "tokenizer")
    heard, sounds = spectrograms(options.each, options.seed)
    pictures = heard.unsqueeze(1)
    vae, vae_state = prepare_vae(pictures, options)
    unheard, _ = spectrograms(each=4, seed=options.seed + 1_000)
    psnr = reconstruction_psnr(vae, unheard.unsqueeze(1))
    print(f"{len(sounds)} sounds, autoencoder {psnr:.2f} dB on new ones")

    seed_everything(options.seed + 1)
    latents = encode_all(vae, pictures)
    model = TextToLatent(tokenizer, latents.shape[1])

    def export(state: dict) -> None:
        """Replace the exported folder by the current average, and the curve and figures by new."""
        pipeline = build_pipeline(vae, model, tokenizer)
        export_pipeline(pipeline, options.output, options.work / "staging")
        curves = {"autoencoder": vae_state["curve"], "denoiser": state["curve"]}
        plot_curves(curves, options.output / "loss.png")
        run = {
            "sounds": len(sounds),
            "seed": options.seed,
            "autoencoder": {
                "parameters": count_parameters(vae),
                "minutes": round(vae_state["spent"] / 60, 1),
                "sounds_seen": vae_state["images_seen"],
                "psnr_db": round(psnr, 2),
            },
            "denoiser": {
                "parameters": count_parameters(model.unet),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                "minutes": round(state["spent"] / 60, 1),
                "steps": state["step"],
                "sounds_seen": state["images_seen"],
                "final_loss": round(state["curve"][-1], 4) if state["curve"] else None,
            },
        }
        (options.output / "training.json").write_text(json.dumps(run, indent=2) + "\n")

    settings = Settings(
        minutes=options.minutes,
        batch_size=options.batch_size,
        peak_lr=options.lr,
        caption_drop=options.caption_drop,
        export_minutes=options.export_minutes,
        workers=options.workers,
        mixed_precision=True,
    )
    captions = [sound.captions() for sound in sounds]
    train_velocity(model, latents, captions, tokenizer, options.work / "unet.pt", settings, export)
    evaluate(options.output, options.seed)


if __name__ == "__main__":
    main()
