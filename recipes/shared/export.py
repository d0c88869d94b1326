"""Put the trained parts together as an ordinary pipeline folder of diffusers."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
)

from recipes.shared.training import record_run

KEPT = ("README.md", "*.png", "*.gif", "*.wav", "evaluation.json", "training.json")
"""Files beside the weights that a new export leaves as they are."""


def export_run(
    pipeline: DiffusionPipeline,
    options: argparse.Namespace,
    curves: dict[str, list[float]],
    run: dict[str, Any],
) -> None:
    """Replace the exported folder by the pipeline, with the run's loss curves and figures."""
    export_pipeline(pipeline, options.output, options.work / "staging")
    record_run(options.output, curves, run)


def export_pipeline(pipeline: DiffusionPipeline, folder: Path, staging: Path) -> None:
    """Write half-precision weights to `staging`, then swap the whole folder by renaming."""
    shutil.rmtree(staging, ignore_errors=True)
    half = copy.deepcopy(pipeline)
    for part in half.components.values():
        if isinstance(part, nn.Module):
            part.half()
    half.save_pretrained(staging)
    for name, part in half.components.items():
        if isinstance(part, CLIPTokenizer | RobertaTokenizer):
            part.backend_tokenizer.model.save(str(staging / name))  # its two files
        if isinstance(part, PreTrainedModel):
            _declare_full_precision(staging / name / "config.json")
        if isinstance(part, CLIPTextModel | CLIPTextModelWithProjection):
            _name_as_on_the_hub(staging / name / "model.safetensors")
        if isinstance(part, PreTrainedTokenizerBase):
            _rewrite(staging / name / "tokenizer_config.json", _without_empty_lists)
    _use_fast_tokenizer(staging)
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
    _rewrite(config, lambda values: values | {"dtype": "float32"})


def _name_as_on_the_hub(weights: Path) -> None:
    """Call CLIP's weights what transformers 4 calls them; transformers 5 reads both names."""
    prefix = "text_model."
    tensors = {
        name if name == "text_projection.weight" else prefix + name.removeprefix(prefix): value
        for name, value in load_file(weights).items()
    }
    save_file(tensors, weights, {"format": "pt"})


def _use_fast_tokenizer(folder: Path) -> None:
    """Let transformers 4 read T5's tokenizer from the one file that transformers 5 has written."""
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace('"T5Tokenizer"', '"T5TokenizerFast"'))


def _without_empty_lists(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != []}


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text())), indent=2) + "\n")
