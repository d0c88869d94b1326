"""Train the emoji-dit miniature: text-to-image by flow matching, in CogView4's format.

It draws the emoji of the `emoji` miniature, whose tokenizer and autoencoder it takes over.  One
command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.emoji_dit.train

The denoiser and the text encoder are trained together; the averaged weights are exported now and
then, and the result is evaluated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional
from transformers import CLIPTokenizer

from recipes.emoji.data import fetch, load_emoji, load_images
from recipes.emoji.evaluate import evaluate
from recipes.emoji_dit.model import ADAMW_NAMES, TextToVelocity, build_pipeline
from recipes.shared.export import export_run
from recipes.shared.options import add_training_options, denoiser_settings
from recipes.shared.train_denoiser import (
    CaptionTable,
    shuffled_batches,
    stratified_sigmas,
    train_denoiser,
)
from recipes.shared.train_vae import encode_all
from recipes.shared.training import count_parameters, progress_record, seed_everything

ROOT = Path(__file__).resolve().parents[2]
MINIATURES = ROOT / "src/adaptive_diffusion/miniatures/weights"
CACHE = ROOT / "build/emoji/cache"
WORK = ROOT / "build/emoji-dit"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_options(
        parser,
        minutes=45,
        batch_size=32,
        export_minutes=8,
        workers=2,
        work=WORK,
        output=MINIATURES / "emoji-dit",
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    """Read the options, train, export, evaluate."""
    options = read_options()
    seed_everything(options.seed)
    emoji = load_emoji(fetch(CACHE), "small")
    tokenizer = CLIPTokenizer.from_pretrained(
        MINIATURES / "emoji/tokenizer",
        padding_side="left",  # where the pipeline pads too
    )
    vae = AutoencoderKL.from_pretrained(MINIATURES / "emoji/vae").requires_grad_(False)
    vae.register_to_config(_name_or_path="emoji")  # not this machine's folder
    latents = encode_all(vae, load_images(emoji))  # mean 0 and spread 1 in every channel
    model = TextToVelocity(tokenizer, latents.shape[1])
    table = CaptionTable(tokenizer, [item.captions() for item in emoji])
    settings = denoiser_settings(options)

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        for indices in shuffled_batches(len(latents), settings.batch_size):
            clean = latents[indices]
            yield (
                clean,
                torch.randn_like(clean),
                stratified_sigmas(len(clean)),
                table.draw(indices, options.caption_drop),
            )

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        noisy = torch.lerp(clean, noise, sigmas[:, None, None, None])
        return functional.mse_loss(model(noisy, sigmas, tokens), noise - clean)

    def export(state: dict) -> None:
        run = {
            "pictures": len(emoji),
            "seed": options.seed,
            "transformer_parameters": count_parameters(model.transformer),
            "text_encoder_parameters": count_parameters(model.text_encoder),
            **progress_record(state, "images"),
        }
        pipeline = build_pipeline(vae, model, tokenizer)
        export_run(pipeline, options, {"velocity": state["curve"]}, run)

    checkpoint = options.work / "transformer.pt"
    train_denoiser(model, loss, batches(), checkpoint, settings, export, ADAMW_NAMES)
    evaluate(options.output, emoji, seed=options.seed)


if __name__ == "__main__":
    main()
