"""Train the sounds miniature: text-to-audio in AudioLDM's format.

One command goes from nothing to evaluated weights, and goes on where it stopped if it is
interrupted::

    python -m recipes.sounds.train

It synthesises the sounds, learns a tokenizer, trains the autoencoder, then the denoiser together
with the text encoder, exporting the averaged weights now and then, and evaluates the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.shared.export import export_run
from recipes.shared.options import (
    add_autoencoder_options,
    add_training_options,
    autoencoder_settings,
    denoiser_settings,
)
from recipes.shared.train_vae import encode_all, reconstruction_psnr, train_vae
from recipes.shared.train_velocity import train_velocity
from recipes.shared.training import count_parameters, progress_record, seed_everything
from recipes.sounds.data import SOUNDS, spectrograms
from recipes.sounds.evaluate import WEIGHTS, evaluate
from recipes.sounds.model import TextToLatent, build_pipeline, build_vae
from recipes.sounds.tokenizer import prepare_tokenizer

WORK = Path(__file__).resolve().parents[2] / "build/sounds"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=120, help="renderings of each sound")
    add_autoencoder_options(parser, minutes=9, batch_size=8, lr=4e-3)
    add_training_options(
        parser,
        minutes=63,
        batch_size=32,
        export_minutes=10,
        workers=1,
        work=WORK,
        output=WEIGHTS,
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    """Run all stages."""
    options = read_options()
    seed_everything(options.seed)

    every_caption = [caption for sound in SOUNDS for caption in sound.captions()]
    tokenizer = prepare_tokenizer(every_caption, options.work / "tokenizer")
    heard, sounds = spectrograms(options.each, options.seed)
    pictures = heard.unsqueeze(1)
    vae = build_vae()
    vae_state = train_vae(
        vae,
        pictures,
        options.work / "vae.pt",
        autoencoder_settings(options, mixed_precision=True),
        options.kl_weight,
    )
    unheard, _ = spectrograms(each=4, seed=options.seed + 1_000)
    psnr = reconstruction_psnr(vae, unheard.unsqueeze(1))
    print(f"{len(sounds)} sounds, autoencoder {psnr:.2f} dB on new ones")

    seed_everything(options.seed + 1)
    latents = encode_all(vae, pictures)
    model = TextToLatent(tokenizer, latents.shape[1])

    def export(state: dict) -> None:
        """Replace the exported folder by the current average, and the curve and figures by new."""
        curves = {"autoencoder": vae_state["curve"], "denoiser": state["curve"]}
        run = {
            "sounds": len(sounds),
            "seed": options.seed,
            "autoencoder": {
                "parameters": count_parameters(vae),
                **progress_record(vae_state, "sounds"),
                "psnr_db": round(psnr, 2),
            },
            "denoiser": {
                "parameters": count_parameters(model.unet),
                "text_encoder_parameters": count_parameters(model.text_encoder),
                **progress_record(state, "sounds"),
            },
        }
        export_run(build_pipeline(vae, model, tokenizer), options, curves, run)

    captions = [sound.captions() for sound in sounds]
    train_velocity(
        model,
        latents,
        captions,
        tokenizer,
        options.work / "unet.pt",
        denoiser_settings(options, mixed_precision=True),
        options.caption_drop,
        export,
    )
    evaluate(options.output, options.seed)


if __name__ == "__main__":
    main()
