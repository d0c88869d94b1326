"""Tiny, randomly initialised diffusers pipelines for tests.

The real pipeline classes run with components of some hundred thousand weights, so that a test sees
the true call patterns (guidance batches, separate passes, ControlNets, videos) in a fraction of a
second and without a download. The weights are seeded: a failure can be repeated. The outputs mean
nothing, but they depend on prompt, seed and timestep like those of a trained model.

`TINY_PIPELINES` has one of every kind, for the tests that go into detail; `ALL_PIPELINES` has every
pipeline class that can be built here, from all `FAMILIES`. Adding one is one entry in a family's
list. A family also names the classes that the library refuses, and those that can't be built here.
"""

from __future__ import annotations

from tiny_pipelines import (
    audio,
    core,
    flux_sd3,
    image_transformers,
    modular,
    molecules,
    qwen_and_kin,
    sdxl,
    stable_diffusion,
    unets,
    video,
    video_transformers,
    wan_and_kin,
)
from tiny_pipelines.base import TinyPipeline, batch_size, outputs, run, seeded, single
from tiny_pipelines.inputs import prompts
from tiny_pipelines.parts import BETAS, T5_LENGTH, WIDTH, t5_encoder, t5_tokenizer, tiny_unet
from tiny_pipelines.video import i2vgen_xl

__all__ = [
    "ALL_PIPELINES",
    "BETAS",
    "FAMILIES",
    "NOT_BUILT",
    "REFUSED",
    "T5_LENGTH",
    "TINY_PIPELINES",
    "WIDTH",
    "TinyPipeline",
    "batch_size",
    "i2vgen_xl",
    "outputs",
    "prompts",
    "run",
    "seeded",
    "single",
    "t5_encoder",
    "t5_tokenizer",
    "tiny_unet",
]

FAMILIES = (
    core,
    stable_diffusion,
    unets,
    sdxl,
    flux_sd3,
    qwen_and_kin,
    image_transformers,
    wan_and_kin,
    video,
    video_transformers,
    audio,
    molecules,
    modular,
)

ALL_PIPELINES: dict[str, TinyPipeline] = {
    entry.name: entry for family in FAMILIES for entry in family.PIPELINES
}
TINY_PIPELINES: dict[str, TinyPipeline] = {entry.name: entry for entry in core.PIPELINES}

REFUSED: dict[str, str] = {
    name: reason for family in FAMILIES for name, reason in getattr(family, "REFUSED", {}).items()
}
"""Classes that `enable` refuses, with a part of the reason that it gives."""

NOT_BUILT: dict[str, str] = {
    name: reason for family in FAMILIES for name, reason in getattr(family, "NOT_BUILT", {}).items()
}
"""Classes of which nothing is known here, and why."""
