"""Train the emoji-dit miniature: text-to-image by flow matching, in CogView4's format.

It draws the emoji of the `emoji` miniature, whose tokenizer and autoencoder it takes over.  One
command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.emoji_dit.train

The denoiser and the text encoder are trained together; the averaged weights are exported now and
then, and the result is evaluated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional
from transformers import CLIPTokenizer

from recipes.emoji.data import fetch, load_emoji, load_images
from recipes.emoji.evaluate import evaluate
from recipes.emoji.train_vae import encode_all
from recipes.emoji_dit.model import ADAMW_NAMES, TextToVelocity, build_pipeline
from recipes.shared.export import export_pipeline
from recipes.shared.train_denoiser import CaptionTable, Settings, shuffled_batches, train_denoiser
from recipes.shared.training import count_parameters, plot_curves, seed_everything

ROOT = Path(__file__).resolve().parents[2]
MINIATURES = ROOT / "src/adaptive_diffusion/miniatures/weights"
CACHE = ROOT / "build/emoji/cache"
WORK = ROOT / "build/emoji-dit"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=45, help="wall-clock training budget")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--caption-drop", type=float, default=0.1)
    parser.add_argument("--export-minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="cores to train on")
    parser.add_argument("--work", type=Path, default=WORK, help="checkpoints")
    parser.add_argument("--output", type=Path, default=MINIATURES / "emoji-dit")
    return parser.parse_args()


def stratified_sigmas(batch_size: int) -> torch.Tensor:
    """Noise levels from the logistic normal distribution, one from each of equal shares.

    Most lie in the middle: near 0 there is nothing left to learn, near 1 only the caption to go by.
    """
    positions = (torch.arange(batch_size) + torch.rand(batch_size)) / batch_size
    return torch.special.ndtri(positions.clamp(1e-4, 1 - 1e-4)).sigmoid()


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
    settings = Settings(
        minutes=options.minutes,
        batch_size=options.batch_size,
        peak_lr=options.lr,
        caption_drop=options.caption_drop,
        export_minutes=options.export_minutes,
        workers=options.workers,
    )

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        for indices in shuffled_batches(len(latents), settings.batch_size):
            clean = latents[indices]
            yield (
                clean,
                torch.randn_like(clean),
                stratified_sigmas(len(clean)),
                table.draw(indices, settings.caption_drop),
            )

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        noisy = torch.lerp(clean, noise, sigmas[:, None, None, None])
        return functional.mse_loss(model(noisy, sigmas, tokens), noise - clean)

    def export(state: dict) -> None:
        pipeline = build_pipeline(vae, model, tokenizer)
        export_pipeline(pipeline, options.output, options.work / "staging")
        plot_curves({"velocity": state["curve"]}, options.output / "loss.png")
        run = {
            "pictures": len(emoji),
            "seed": options.seed,
            "transformer_parameters": count_parameters(model.transformer),
            "text_encoder_parameters": count_parameters(model.text_encoder),
            "minutes": round(state["spent"] / 60, 1),
            "steps": state["step"],
            "images_seen": state["images_seen"],
            "final_loss": round(state["curve"][-1], 4),
        }
        (options.output / "training.json").write_text(json.dumps(run, indent=2) + "\n")

    checkpoint = options.work / "transformer.pt"
    train_denoiser(model, loss, batches(), checkpoint, settings, export, ADAMW_NAMES)
    evaluate(options.output, emoji, seed=options.seed)


if __name__ == "__main__":
    main()
