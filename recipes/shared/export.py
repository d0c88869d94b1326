"""Put the trained parts together as an ordinary pipeline folder of diffusers."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

from diffusers import DiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer, RobertaTokenizer

KEPT = ("README.md", "*.png", "*.gif", "*.wav", "evaluation.json", "training.json")
"""Files beside the weights that a new export leaves as they are."""


def export_pipeline(pipeline: DiffusionPipeline, folder: Path, staging: Path) -> None:
    """Write half-precision weights to `staging`, then swap the whole folder by renaming."""
    shutil.rmtree(staging, ignore_errors=True)
    half = copy.deepcopy(pipeline)
    for part in half.components.values():
        if isinstance(part, nn.Module):
            part.half()
    half.save_pretrained(staging)
    if isinstance(half.tokenizer, CLIPTokenizer | RobertaTokenizer):
        half.tokenizer.backend_tokenizer.model.save(str(staging / "tokenizer"))  # its two files
    _declare_full_precision(staging / "text_encoder" / "config.json")
    for pattern in KEPT:
        for file in folder.glob(pattern):
            shutil.copy2(file, staging)
    old = staging.with_name(staging.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _declare_full_precision(config: Path) -> None:
    """Let transformers load the text encoder in float32, as diffusers does the other parts.

    Left to itself it would take the precision of the file, which then does not fit the denoiser's.
    """
    values = json.loads(config.read_text())
    values["dtype"] = "float32"
    config.write_text(json.dumps(values, indent=2) + "\n")
