"""Train the emoji miniature: a small text-to-image model in Stable Diffusion's own format.

One command goes from data to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.emoji.train

It fetches the pictures, learns a tokenizer, trains the autoencoder, then the denoiser together
with the text encoder, exporting the averaged weights now and then, and evaluates the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.emoji.data import SUBSETS, fetch, load_emoji, load_images
from recipes.emoji.evaluate import evaluate
from recipes.emoji.model import TextToLatent, build_pipeline, build_vae
from recipes.shared.export import export_run
from recipes.shared.options import (
    add_autoencoder_options,
    add_training_options,
    autoencoder_settings,
    denoiser_settings,
)
from recipes.shared.tokenizer import prepare_tokenizer
from recipes.shared.train_vae import encode_all, reconstruction_psnr, train_vae
from recipes.shared.train_velocity import train_velocity
from recipes.shared.training import count_parameters, progress_record, seed_everything

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/emoji"
WORK = ROOT / "build/emoji"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subset", choices=sorted(SUBSETS), default="small")
    add_autoencoder_options(parser, minutes=14, batch_size=8, lr=4e-3)
    add_training_options(
        parser,
        minutes=41,
        batch_size=32,
        export_minutes=12,
        workers=2,
        work=WORK,
        output=WEIGHTS,
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    """Run all stages."""
    options = read_options()
    seed_everything(options.seed)

    emoji = load_emoji(fetch(options.work / "cache"), options.subset)
    images = load_images(emoji)
    captions = [item.captions() for item in emoji]
    tokenizer = prepare_tokenizer([c for row in captions for c in row], options.work / "tokenizer")
    vae = build_vae()
    vae_state = train_vae(
        vae,
        images,
        options.work / "vae.pt",
        autoencoder_settings(options),
        options.kl_weight,
    )
    psnr = reconstruction_psnr(vae, images)
    print(f"{len(emoji)} emoji, autoencoder {psnr:.2f} dB")

    latents = encode_all(vae, images)
    seed_everything(options.seed + 1)
    model = TextToLatent(tokenizer, latents.shape[1])

    def export(state: dict) -> None:
        """Replace the exported folder by the current average, and the curve and figures by new."""
        curves = {"autoencoder": vae_state["curve"], "denoiser": state["curve"]}
        run = {
            "subset": options.subset,
            "pictures": len(emoji),
            "seed": options.seed,
            "autoencoder": {
                "parameters": count_parameters(vae),
                **progress_record(vae_state, "images"),
                "psnr_db": round(psnr, 2),
            },
            "denoiser": {
                "parameters": count_parameters(model.unet),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                **progress_record(state, "images"),
            },
        }
        export_run(build_pipeline(vae, model, tokenizer), options, curves, run)

    train_velocity(
        model,
        latents,
        captions,
        tokenizer,
        options.work / "unet.pt",
        denoiser_settings(options),
        options.caption_drop,
        export,
    )
    evaluate(options.output, emoji, seed=options.seed)


if __name__ == "__main__":
    main()
