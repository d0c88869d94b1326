"""Train the motion-dit miniature: text-to-video and image-to-video, in LTX-Video's format.

One command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.motion_dit.train

It trains the autoencoder on clips rendered as it goes, then its decoder alone; encodes a table of
clips of every subject with every motion (but for the pairs held out); trains the denoiser together
with the text encoder on that table, exporting the averaged weights now and then; and evaluates the
result.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor

from recipes.emoji.data import fetch
from recipes.motion.data import (
    HELD_OUT,
    MOTIONS,
    SUBJECTS,
    captions,
    load_sprites,
    load_subjects,
    training_pairs,
)
from recipes.motion.judge import draw_clips
from recipes.motion_dit.autoencoder import (
    encode,
    normalise_latents,
    reconstruction_psnr,
    train_autoencoder,
    train_decoder,
)
from recipes.motion_dit.evaluate import evaluate
from recipes.motion_dit.model import (
    ADAMW_NAMES,
    FRAMES,
    NOISE_LEVELS,
    TextToVelocity,
    build_pipeline,
)
from recipes.motion_dit.tokenizer import build_tokenizer
from recipes.shared.export import export_run
from recipes.shared.options import (
    add_autoencoder_options,
    add_training_options,
    autoencoder_settings,
    denoiser_settings,
)
from recipes.shared.train_denoiser import (
    CaptionTable,
    shuffled_batches,
    stratified_sigmas,
    train_denoiser,
)
from recipes.shared.training import count_parameters, progress_record, seed_everything

ROOT = Path(__file__).resolve().parents[2]
MINIATURES = ROOT / "src/adaptive_diffusion/miniatures/weights"
CACHE = ROOT / "build/emoji/cache"
WORK = ROOT / "build/motion-dit"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_autoencoder_options(parser, minutes=34, batch_size=3, lr=4e-3)
    parser.add_argument("--decoder-minutes", type=float, default=20, help="the decoder alone")
    parser.add_argument("--decoder-lr", type=float, default=2e-3)
    parser.add_argument("--clips", type=int, default=24, help="of a subject with a motion")
    add_training_options(
        parser,
        minutes=66,
        batch_size=16,
        export_minutes=10,
        workers=1,
        work=WORK,
        output=MINIATURES / "motion-dit",
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    parser.add_argument("--image-share", type=float, default=0.3, help="given their first frame")
    return parser.parse_args()


def prepare_autoencoder(
    sprites: Tensor, options: argparse.Namespace
) -> tuple[AutoencoderKLLTXVideo, dict[str, list[float]], dict[str, Any]]:
    """Stage 1: the autoencoder, its loss curves, and figures about it."""
    settings = autoencoder_settings(options, mixed_precision=True)
    vae, whole = train_autoencoder(
        sprites, FRAMES, options.work / "autoencoder.pt", settings, options.kl_weight
    )
    settings = replace(settings, minutes=options.decoder_minutes, peak_lr=options.decoder_lr)
    alone = train_decoder(vae, sprites, FRAMES, options.work / "decoder.pt", settings)
    psnr = reconstruction_psnr(vae, draw_clips(sprites, list(HELD_OUT), 4, FRAMES, options.seed))
    print(f"autoencoder {psnr.mean():.2f} dB on the pairs held out, least {psnr.min():.2f}")
    figures = {
        "parameters": count_parameters(vae),
        "minutes": round(whole["spent"] / 60, 1),
        "steps": whole["step"],
        "stretches_seen": whole["images_seen"],
        "decoder_minutes": round(alone["spent"] / 60, 1),
        "decoder_steps": alone["step"],
        "decoder_stretches_seen": alone["images_seen"],
        "psnr_db": round(psnr.mean().item(), 2),
        "least_psnr_db": round(psnr.min().item(), 2),
    }
    return vae, {"autoencoder": whole["curve"], "decoder alone": alone["curve"]}, figures


def all_captions(subject: str, motion: str) -> list[str]:
    """What may be said of a clip, beginning with a small or with a capital letter."""
    return [form for text in captions(subject, motion) for form in (text, text.capitalize())]


def main() -> None:
    """Read the options, train, export, evaluate."""
    options = read_options()
    seed_everything(options.seed)
    sprites = load_sprites(load_subjects(fetch(CACHE)))
    vae, curves, figures = prepare_autoencoder(sprites, options)
    pairs = training_pairs()
    latents = encode(vae, draw_clips(sprites, pairs, options.clips, FRAMES, options.seed))
    latents = normalise_latents(vae, latents)

    seed_everything(options.seed + 1)
    every = [all_captions(subject, motion) for subject in SUBJECTS for motion in MOTIONS]
    tokenizer = build_tokenizer([text for texts in every for text in texts])
    model = TextToVelocity(tokenizer, latents.shape[1])
    table = CaptionTable(tokenizer, [all_captions(*pair) for pair in pairs])
    settings = denoiser_settings(options)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for indices in shuffled_batches(len(latents), settings.batch_size):
            clean = latents[indices]
            yield (
                clean,
                torch.randn_like(clean),
                stratified_sigmas(len(clean)),
                torch.rand(len(clean)) < options.image_share,
                table.draw(indices // options.clips, options.caption_drop),
            )

    def loss(clean: Tensor, noise: Tensor, sigmas: Tensor, given: Tensor, tokens: Tensor) -> Tensor:
        sigmas = sigmas[:, None].repeat(1, clean.shape[2])
        sigmas[given, 0] = 0.0
        noisy = torch.lerp(clean, noise, sigmas[:, None, :, None, None])
        errors = (model(noisy, NOISE_LEVELS * sigmas, tokens) - (noise - clean)).square()
        asked = (sigmas > 0).float()  # a frame that is given is not to be predicted
        return (errors.mean(dim=(1, 3, 4)) * asked).sum() / asked.sum()

    def export(state: dict) -> None:
        run = {
            "seed": options.seed,
            "autoencoder": figures,
            "denoiser": {
                "parameters": count_parameters(model.transformer),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                "clips": len(latents),
                **progress_record(state, "clips"),
            },
        }
        pipeline = build_pipeline(vae, model, tokenizer)
        export_run(pipeline, options, {**curves, "denoiser": state["curve"]}, run)

    checkpoint = options.work / "transformer.pt"
    train_denoiser(model, loss, batches(), checkpoint, settings, export, ADAMW_NAMES)
    evaluate(options.output, sprites, options.seed)


if __name__ == "__main__":
    main()
