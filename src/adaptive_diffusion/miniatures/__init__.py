"""Small, really trained pipelines that come with the package and load offline.

Each is a folder in diffusers' own format under `weights/`, with a model card beside the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptive_diffusion.errors import MiniatureError

__all__ = ["GUIDANCE", "load_miniature", "miniatures"]

GUIDANCE = {"emoji": 3.0, "emoji-dit": 3.0}
"""The guidance scale at which a miniature's pictures look best; pass it to the pipeline's call."""

_WEIGHTS = Path(__file__).parent / "weights"


def miniatures() -> dict[str, Path]:
    """The miniatures at hand: their names and folders."""
    return {
        index.parent.name: index.parent for index in sorted(_WEIGHTS.glob("*/model_index.json"))
    }


def load_miniature(name: str = "emoji", **options: Any) -> Any:
    """A miniature as a diffusers pipeline, from the package's own files.

    Args:
        name: one of `miniatures()`.
        options: passed on to `DiffusionPipeline.from_pretrained`, which loads the weights, stored
            in float16, as float32 unless it is told otherwise.

    Raises:
        MiniatureError: if there is none of that name.
    """
    from diffusers import DiffusionPipeline

    from adaptive_diffusion.miniatures import griffin_lim  # noqa: F401  `sounds` names it

    at_hand = miniatures()
    if name not in at_hand:
        raise MiniatureError(f"no miniature {name!r}; at hand: {', '.join(at_hand) or 'none'}")
    return DiffusionPipeline.from_pretrained(at_hand[name], local_files_only=True, **options)
