"""Small, really trained models that load offline.

Each is a folder with a model card beside the weights: a pipeline in diffusers' own format or, where
its data are no media, a model with a sampling loop of its own. `emoji`, `digits` and `scenes` come
with the package; the others are in the repository, under `weights/` as well, and are found wherever
the environment variable `ADAPTIVE_DIFFUSION_MINIATURES` says that they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from adaptive_diffusion.errors import MiniatureError
from adaptive_diffusion.miniatures.prompts import PROMPTS

__all__ = [
    "ARGUMENTS",
    "FOLDER",
    "GUIDANCE",
    "PROMPTS",
    "load_miniature",
    "miniatures",
    "pipeline_miniatures",
]

FOLDER = "ADAPTIVE_DIFFUSION_MINIATURES"
"""The environment variable that names a folder of further miniatures."""

GUIDANCE = {
    "emoji": 3.0,
    "emoji-dit": 3.0,
    "motion": 3.0,
    "motion-dit": 3.0,
    "scenes": 7.5,
    "sounds": 2.5,
}
"""The guidance scale at which what a miniature makes is best; pass it to the pipeline's call."""

ARGUMENTS: dict[str, dict[str, int]] = {
    "motion-dit": {"height": 32, "width": 32, "num_frames": 17},
    "scenes": {"max_sequence_length": 12},
}
"""What else to pass to the call of a miniature whose class was made for a larger model."""

_WEIGHTS = Path(__file__).parent / "weights"


def miniatures() -> dict[str, Path]:
    """The miniatures at hand: their names and folders, those of the package and of `FOLDER`."""
    return dict(sorted({**_folders_with("config.json"), **pipeline_miniatures()}.items()))


def pipeline_miniatures() -> dict[str, Path]:
    """Those of them that are pipelines of diffusers."""
    return _folders_with("model_index.json")


def _folders_with(index: str) -> dict[str, Path]:
    folders = [_WEIGHTS, *(Path(each).expanduser() for each in [os.environ.get(FOLDER)] if each)]
    found = [file.parent for folder in folders for file in folder.glob(f"*/{index}")]
    return {folder.name: folder for folder in sorted(found, key=lambda folder: folder.name)}


def load_miniature(name: str = "emoji", **options: Any) -> Any:
    """A miniature, from files at hand: a diffusers pipeline, but for `motions`.

    `motions` has a sampling loop of its own and comes as `miniatures.motions.Motions`.

    Args:
        name: one of `miniatures()`.
        options: passed on to `DiffusionPipeline.from_pretrained`, which loads the weights, stored
            in float16, as float32 unless it is told otherwise. `motions` takes none.

    Raises:
        MiniatureError: if there is none of that name.
    """
    at_hand = miniatures()
    if name not in at_hand:
        raise MiniatureError(
            f"no miniature {name!r}; at hand: {', '.join(at_hand) or 'none'}. For others, set "
            f"{FOLDER} to the folder that has them, such as src/adaptive_diffusion/miniatures/"
            "weights of the project's repository"
        )
    if name not in pipeline_miniatures():
        from adaptive_diffusion.miniatures.motions import Motions

        return Motions.load(at_hand[name], **options)
    from diffusers import DiffusionPipeline

    # Folders of miniatures name these.
    from adaptive_diffusion.miniatures import clean_sample, griffin_lim, patches  # noqa: F401

    return DiffusionPipeline.from_pretrained(at_hand[name], local_files_only=True, **options)
