"""Measure what the sounds miniature has learned, and draw the model card's grid.

A classifier that has only heard synthesised sounds listens to what the pipeline makes: which
instrument is it, and how is it played?  New synthesised sounds, plain and after the autoencoder
and the vocoder, are the yardstick.  Run alone::

    python -m recipes.sounds.evaluate
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from diffusers import DiffusionPipeline
from rich.progress import track
from scipy.io import wavfile
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC

from recipes.emoji.evaluate import draw_grid
from recipes.shared.options import evaluation_parser
from recipes.sounds.data import RATE, SOUNDS, WAYS, Sound, spectrograms

WEIGHTS = Path(__file__).resolve().parents[2] / "src/adaptive_diffusion/miniatures/weights/sounds"
STEPS = 50
GUIDANCE = 2.5
BATCH = 16
THREE_NOTES = ("rising", "falling")
TO_HEAR = (Sound("bell", "high"), Sound("trumpet", "repeated"), Sound("laser", "repeated"))


class Listener:
    """Names the instrument and the way of playing from log-mel spectrograms `(n, T, bands)`."""

    def __init__(self, heard: torch.Tensor, sounds: list[Sound]) -> None:
        features = _features(heard)
        self._instrument = _classifier().fit(features, [sound.instrument for sound in sounds])
        self._way = _classifier().fit(features, [sound.way for sound in sounds])

    def accuracy(self, heard: torch.Tensor, sounds: list[Sound]) -> dict[str, float]:
        """The share of sounds whose instrument, way of playing, and both are told right.

        Also the share of ways that are right if three notes need not go in the right direction.
        """
        features = _features(heard)
        instrument = self._instrument.predict(features) == [s.instrument for s in sounds]
        ways, asked = self._way.predict(features), np.array([s.way for s in sounds])
        way = ways == asked
        three = np.isin(ways, THREE_NOTES) & np.isin(asked, THREE_NOTES)
        shares = {
            "instrument": instrument,
            "way": way,
            "way_but_for_direction": way | three,
            "both": instrument & way,
            "both_but_for_direction": instrument & (way | three),
        }
        return {name: round(float(share.mean()), 4) for name, share in shares.items()}


def _classifier() -> Pipeline:
    return make_pipeline(PCA(100, random_state=0), SVC(C=10))


def _features(heard: torch.Tensor) -> np.ndarray:
    """Half the resolution both ways: a classifier should not hang on single partials."""
    return torch.nn.functional.avg_pool2d(heard, 2).flatten(1).numpy()


def generate(
    pipeline: DiffusionPipeline, sounds: list[Sound], seed: int, guidance: float
) -> torch.Tensor:
    """Waveforms `(n, samples)` of sounds asked for by their first caption, each from its seed."""
    parts = []
    for first in track(range(0, len(sounds), BATCH), description="sampling"):
        prompts = [sound.captions()[0] for sound in sounds[first : first + BATCH]]
        seeds = range(seed + first, seed + first + len(prompts))
        result = pipeline(
            prompts,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(each) for each in seeds],
        )
        parts.append(torch.from_numpy(result.audios))
    return torch.cat(parts)


@torch.no_grad()
def through(pipeline: DiffusionPipeline, heard: torch.Tensor) -> torch.Tensor:
    """Spectrograms after the autoencoder and the vocoder: the most that the denoiser can reach."""
    parts = []
    for part in heard.split(BATCH):
        latents = pipeline.vae.encode(part.unsqueeze(1)).latent_dist.mode()
        restored = pipeline.vae.decode(latents).sample.squeeze(1)
        parts.append(pipeline.vocoder.analyse(pipeline.vocoder(restored)))
    return torch.cat(parts)


def draw(heard: torch.Tensor, sounds: list[Sound], path: Path) -> None:
    """Spectrograms in rows of one instrument, time to the right and pitch upwards."""
    pictures = matplotlib.colormaps["magma"](heard.mT.flip(1).numpy() / 2 + 0.5)[..., :3]
    captions = [f"{sound.instrument}, {sound.way}" for sound in sounds]
    grid = draw_grid(pictures, captions, columns=len(WAYS))
    grid.quantize(64).save(path, optimize=True)


def evaluate(weights: Path, seed: int = 0, guidance: float = GUIDANCE) -> dict:
    """Write figures, grid and a few WAV files beside the weights, and return the figures."""
    pipeline = DiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    listener = Listener(*spectrograms(each=100, seed=seed + 2_000))
    unheard, sounds = spectrograms(each=10, seed=seed + 3_000)
    few = slice(None, None, 3)
    asked = [sound for sound in SOUNDS for _ in range(4)]
    waveforms = generate(pipeline, asked, seed, guidance)
    heard = pipeline.vocoder.analyse(waveforms)
    figures = {
        "generated": listener.accuracy(heard, asked),
        "synthesised": listener.accuracy(unheard, sounds),
        "synthesised_then_autoencoder_and_vocoder": listener.accuracy(
            through(pipeline, unheard[few]), sounds[few]
        ),
        "sounds": len(asked),
        "steps": STEPS,
        "guidance": guidance,
    }
    (weights / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw(heard[::4], SOUNDS, weights / "grid.png")
    for sound in TO_HEAR:
        waveform = waveforms[asked.index(sound)].numpy()
        samples = (waveform / max(1, np.abs(waveform).max()) * 32767).astype(np.int16)
        wavfile.write(weights / f"{sound.instrument}-{sound.way}.wav", RATE, samples)
    return figures


def main() -> None:
    """Evaluate the exported weights from the command line."""
    parser = evaluation_parser(__doc__.splitlines()[0], WEIGHTS, GUIDANCE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(evaluate(options.weights, options.seed, options.guidance), indent=2))


if __name__ == "__main__":
    main()
