"""Train the motion miniature: text-to-video in the format of ModelScope's `TextToVideoSDPipeline`.

One command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.motion.train

It draws clips of moving emoji, fits the `emoji` miniature's autoencoder to their frames, encodes
the clips, trains the denoiser together with the text encoder, exporting the averaged weights now
and then, and evaluates the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from recipes.emoji.data import fetch
from recipes.motion.data import FRAMES, captions, load_sprites, load_subjects, training_pairs
from recipes.motion.evaluate import evaluate
from recipes.motion.judge import PAIRS, draw_clips
from recipes.motion.latents import encode_clips
from recipes.motion.model import TextToClip, build_pipeline
from recipes.shared.export import export_run
from recipes.shared.options import (
    add_autoencoder_options,
    add_training_options,
    autoencoder_settings,
    denoiser_settings,
)
from recipes.shared.tokenizer import prepare_tokenizer
from recipes.shared.train_vae import reconstruction_psnr, train_vae
from recipes.shared.train_velocity import train_velocity
from recipes.shared.training import count_parameters, progress_record, seed_everything

ROOT = Path(__file__).resolve().parents[2]
MINIATURES = ROOT / "src/adaptive_diffusion/miniatures/weights"
CACHE = ROOT / "build/emoji/cache"
WORK = ROOT / "build/motion"
VAE_CLIPS, DENOISER_CLIPS, TEST_CLIPS = 4, 32, 1
"""Of every pair of subject and motion; each with a seed of its own, counted from the run's."""


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_autoencoder_options(parser, minutes=8, batch_size=16, lr=2e-3)
    add_training_options(
        parser,
        minutes=85,
        batch_size=8,
        export_minutes=10,
        workers=1,
        work=WORK,
        output=MINIATURES / "motion",
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    return parser.parse_args()


def prepare_vae(sprites: Tensor, options: argparse.Namespace) -> tuple[AutoencoderKL, dict]:
    """Stage 1, from the weights of `emoji`."""
    clips = draw_clips(sprites, training_pairs(), VAE_CLIPS, FRAMES, options.seed)
    vae = AutoencoderKL.from_pretrained(MINIATURES / "emoji/vae")
    vae.register_to_config(_name_or_path="motion")  # not this machine's folder
    state = train_vae(
        vae,
        clips.flatten(0, 1),
        options.work / "vae.pt",
        autoencoder_settings(options, mixed_precision=True),
        options.kl_weight,
    )
    return vae, state


def prepare_latents(
    vae: AutoencoderKL, sprites: Tensor, options: argparse.Namespace, frames_seen: int
) -> tuple[Tensor, list[list[str]]]:
    """The table of latents, which is kept for this autoencoder, and the captions of each."""
    pairs, table = training_pairs(), options.work / f"latents-{frames_seen}.pt"
    if not table.exists():
        clips = draw_clips(sprites, pairs, DENOISER_CLIPS, FRAMES, options.seed + 1)
        torch.save(encode_clips(vae, clips), table)
    names = [captions(*pair) for pair in pairs for _ in range(DENOISER_CLIPS)]
    return torch.load(table, weights_only=True), names


def main() -> None:
    """Run all stages."""
    options = read_options()
    seed_everything(options.seed)
    sprites = load_sprites(load_subjects(fetch(CACHE)))
    vae, vae_state = prepare_vae(sprites, options)
    unseen = draw_clips(sprites, PAIRS, TEST_CLIPS, FRAMES, options.seed + 2)
    psnr = reconstruction_psnr(vae, unseen.flatten(0, 1))
    print(f"autoencoder {psnr:.2f} dB on the frames of {len(unseen)} new clips")
    latents, names = prepare_latents(vae, sprites, options, vae_state["images_seen"])
    tokenizer = prepare_tokenizer([c for row in names for c in row], options.work / "tokenizer")

    seed_everything(options.seed + 3)
    model = TextToClip(tokenizer, latents.shape[1])

    def export(state: dict) -> None:
        """Replace the exported folder by the current average, and the curve and figures by new."""
        curves = {"autoencoder": vae_state["curve"], "denoiser": state["curve"]}
        run = {
            "clips": len(latents),
            "seed": options.seed,
            "autoencoder": {
                "parameters": count_parameters(vae),
                **progress_record(vae_state, "frames"),
                "psnr_db": round(psnr, 2),
            },
            "denoiser": {
                "parameters": count_parameters(model.unet),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                **progress_record(state, "clips"),
            },
        }
        export_run(build_pipeline(vae, model, tokenizer), options, curves, run)

    train_velocity(
        model,
        latents,
        names,
        tokenizer,
        options.work / "denoiser.pt",
        denoiser_settings(options, mixed_precision=True),
        options.caption_drop,
        export,
    )
    evaluate(options.output, sprites, seed=options.seed)


if __name__ == "__main__":
    main()
