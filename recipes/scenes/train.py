"""Train the scenes miniature: text-to-image by flow matching, in Stable Diffusion 3's format.

One command goes from nothing to weights, and goes on where it stopped if it is interrupted::

    python -m recipes.scenes.train

The pictures are drawn as it goes, each for one step only.  Denoiser and text encoders are trained
together; the averaged weights are exported now and then, and the result is evaluated.  To train
further, give it more minutes.  Where the checkpoint is lost, `--exported FOLDER` goes on from the
weights there; the optimizer starts anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor
from torch.nn import functional

from adaptive_diffusion.miniatures import patches  # noqa: F401  weights name it
from adaptive_diffusion.miniatures.clean_sample import LEAST_NOISE
from recipes.motion_dit.tokenizer import build_tokenizer
from recipes.scenes.data import all_captions, drawn_batches
from recipes.scenes.evaluate import evaluate
from recipes.scenes.model import (
    ADAMW_NAMES,
    TEXT_TOKENS,
    TextToVelocity,
    build_pipeline,
    prepare_autoencoder,
)
from recipes.shared.export import export_run
from recipes.shared.optimizer import build_optimizers
from recipes.shared.options import add_training_options, denoiser_settings
from recipes.shared.tokenizer import prepare_tokenizer
from recipes.shared.train_denoiser import (
    average_of,
    stratified_sigmas,
    tokenize,
    train_denoiser,
)
from recipes.shared.training import (
    count_parameters,
    images_seen,
    progress_record,
    save_checkpoint,
    seed_everything,
)

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src/adaptive_diffusion/miniatures/weights/scenes"
WORK = ROOT / "build/scenes"
NAMING = 0.5
"""How much it counts that the network names what it shows."""
TRAINING_SHIFT = 1.5
"""Of the noise levels in training: between that of drawing a picture and none."""


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_options(
        parser,
        minutes=480,
        batch_size=32,
        export_minutes=20,
        workers=1,
        work=WORK,
        output=WEIGHTS,
    )
    parser.add_argument("--caption-drop", type=float, default=0.1)
    parser.add_argument("--exported", type=Path, help="weights to go on from without a checkpoint")
    return parser.parse_args()


def shifted(sigmas: Tensor) -> Tensor:
    """Noise levels moved towards 1, as a scheduler's shift does."""
    return TRAINING_SHIFT * sigmas / (1 + (TRAINING_SHIFT - 1) * sigmas)


def begin_from(exported: Path, options: argparse.Namespace) -> None:
    """Makes a checkpoint of exported weights, and takes over their autoencoder and tokenizer."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(exported, torch_dtype=torch.float32)
    shutil.copytree(exported / "vae", options.work / "autoencoder", dirs_exist_ok=True)
    shutil.copytree(exported / "tokenizer", options.work / "tokenizer", dirs_exist_ok=True)
    model = TextToVelocity(pipeline.tokenizer, pipeline.tokenizer_3)
    for name, part in model.exported_parts().items():
        part.load_state_dict(getattr(pipeline, name).state_dict())
    optimizers = build_optimizers(model, options.lr, options.workers, ADAMW_NAMES)
    run = json.loads((exported / "training.json").read_text())
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": average_of([p for p in model.parameters() if p.requires_grad]).state_dict(),
        "spent": 60 * run["minutes"],
        "began": 60 * run["minutes"],
        "curve": [],
        "step": run["steps"],
        "images_seen": run["images_seen"],
    }
    save_checkpoint(options.work / "transformer.pt", state)


def main() -> None:
    """Read the options, train, export, evaluate."""
    options = read_options()
    seed_everything(options.seed)
    if options.exported is not None and not (options.work / "transformer.pt").exists():
        begin_from(options.exported, options)
    clip_tokenizer = prepare_tokenizer(all_captions(), options.work / "tokenizer", TEXT_TOKENS)
    t5_tokenizer = build_tokenizer(all_captions())
    autoencoder = prepare_autoencoder(options.seed, options.work / "autoencoder")
    model = TextToVelocity(clip_tokenizer, t5_tokenizer)
    settings = denoiser_settings(options)
    checkpoint = options.work / "transformer.pt"

    def batches() -> Iterator[tuple[Tensor, ...]]:
        drawn = drawn_batches(options.seed, images_seen(checkpoint), settings.batch_size)
        for pictures, kinds, captions in drawn:
            clean = autoencoder.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1).latents
            dropped = (torch.rand(len(captions)) < options.caption_drop).tolist()
            texts = ["" if drop else text for text, drop in zip(captions, dropped, strict=True)]
            yield (
                clean,
                kinds,
                torch.randn_like(clean),
                shifted(stratified_sigmas(len(clean))),
                tokenize(clip_tokenizer, texts),
                tokenize(t5_tokenizer, texts, TEXT_TOKENS),
            )

    def loss(
        clean: Tensor, kinds: Tensor, noise: Tensor, sigmas: Tensor, *tokens: Tensor
    ) -> Tensor:
        shares = sigmas[:, None, None, None]
        noisy = torch.lerp(clean, noise, shares)
        velocity = (noisy - clean) / shares.clamp(min=LEAST_NOISE)
        error = functional.mse_loss(model(noisy, sigmas, *tokens), velocity)
        return error + NAMING * model.naming_loss(kinds)

    def export(state: dict) -> None:
        encoders = (model.text_encoder, model.text_encoder_2, model.text_encoder_3)
        run = {
            "seed": options.seed,
            "transformer_parameters": count_parameters(model.transformer),
            "text_encoder_parameters": sum(count_parameters(encoder) for encoder in encoders),
            **progress_record(state, "images"),
        }
        pipeline = build_pipeline(autoencoder, model, clip_tokenizer, t5_tokenizer)
        export_run(pipeline, options, {"velocity": state["curve"]}, run)

    train_denoiser(model, loss, batches(), checkpoint, settings, export, ADAMW_NAMES)
    evaluate(options.output, options.work / "judge.pt", options.seed)


if __name__ == "__main__":
    main()
