"""Weights in files: what a `.safetensors` file holds, and what is loaded in addition to a model."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Lora", "add_controlnet", "add_loras", "load_single_file", "stored_dtype"]

_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Lora:
    """A LoRA and its weight.

    Attributes:
        place: a `.safetensors` file, or a hub id.
        scale: 1 for the strength that it was trained at.
    """

    place: str
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """From `FILE` or `FILE:SCALE`; raises `ValueError` if there is no such file."""
        place, _, scale = text.rpartition(":")
        try:
            lora = cls(place, float(scale)) if place else cls(text)
        except ValueError:  # the colon is part of the name
            lora = cls(text)
        if not math.isfinite(lora.scale):
            raise ValueError(f"--lora {text}: the scale must be a finite number, such as 0.8")
        file = Path(lora.place).expanduser()
        if file.suffix in (".ckpt", ".pt", ".bin"):
            raise ValueError(f"--lora {lora.place} may hold code: convert it to {_SUFFIX}")
        if not file.is_file() and (file.suffix == _SUFFIX or lora.place.count("/") != 1):
            raise ValueError(
                f"--lora {lora.place}: there is no such file; give FILE{_SUFFIX}:SCALE"
            )
        return lora

    def __str__(self) -> str:
        return f"{self.place}:{self.scale:g}"


def add_loras(pipe: Any, loras: Sequence[Lora]) -> None:
    """Loads LoRAs into a pipeline, each with its scale.

    Raises:
        ValueError: if the pipeline takes none, or one of them fits no part of it.
    """
    if not loras:
        return
    import peft  # noqa: F401  a missing extra is told by its name

    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"{type(pipe).__name__} takes no LoRA: omit --lora")
    names = []
    for number, lora in enumerate(loras):
        names.append(f"lora{number}")
        file = Path(lora.place).expanduser()
        place = {"weight_name": file.name} if file.is_file() else {}
        folder = str(file.parent) if file.is_file() else lora.place
        try:
            pipe.load_lora_weights(folder, adapter_name=names[-1], use_safetensors=True, **place)
        except Exception as error:  # of any kind, by what is wrong with the file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"--lora {lora.place} does not fit this model: {reason}") from error
        loaded = {name for part in pipe.get_list_adapters().values() for name in part}
        if names[-1] not in loaded:  # diffusers only logs it
            raise ValueError(f"--lora {lora.place} fits no part of this model")
    pipe.set_adapters(names, [lora.scale for lora in loras])


def add_controlnet(pipe: Any, place: Path | str, dtype: torch.dtype) -> Any:
    """The pipeline of the same parts that is guided by a ControlNet.

    Args:
        pipe: one that makes pictures from a prompt.
        place: folder or hub id of the ControlNet.
        dtype: of its weights.

    Raises:
        ValueError: if there is no such ControlNet, or none for this kind of pipeline.
    """
    from diffusers import AutoModel, AutoPipelineForText2Image

    try:
        controlnet = AutoModel.from_pretrained(place, torch_dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"--controlnet {place} can't be loaded: {error}") from error
    if "ControlNet" not in type(controlnet).__name__:
        raise ValueError(f"--controlnet {place} is a {type(controlnet).__name__}, no ControlNet")
    try:
        return AutoPipelineForText2Image.from_pipe(pipe, controlnet=controlnet)
    except ValueError as error:
        raise ValueError(f"{type(pipe).__name__} takes no ControlNet: {error}") from error


def load_single_file(file: Path, dtype: torch.dtype) -> Any:
    """The pipeline whose weights are all in one `.safetensors` file.

    Its configuration is that of the model it is derived from, which diffusers tells by the names
    and shapes of the weights; it comes from the hub, or from the hub's files on this machine.

    Raises:
        ValueError: if it is no such file, or the configuration can't be had.
    """
    import diffusers

    origin = _origin(file)
    try:
        index = diffusers.DiffusionPipeline.load_config(origin)
        kind = getattr(diffusers, index["_class_name"])
        return kind.from_single_file(str(file), config=origin, torch_dtype=dtype)
    except (OSError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file} has the weights of a model like {origin}, whose configuration is needed, too, "
            f"and can't be had: {error}"
        ) from error


def _origin(file: Path) -> str:
    """The hub id of the model that a single file is derived from."""
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    shapes = {
        name: torch.empty(entry["shape"], device="meta") for name, entry in _header(file).items()
    }
    return str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])


def stored_dtype(files: Iterable[Path]) -> torch.dtype:
    """The number type that most weights are stored in: float16 or bfloat16, else float32."""
    counts: Counter[str] = Counter()
    for file in files:
        for entry in _header(file).values():
            counts[entry["dtype"]] += math.prod(entry["shape"])
    most = counts.most_common(1)
    return _DTYPES.get(most[0][0], torch.float32) if most else torch.float32


def _header(file: Path) -> dict[str, dict[str, Any]]:
    """Name, type and shape of all tensors of a `.safetensors` file, without its weights.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            header = json.loads(content.read(min(length, file.stat().st_size)))
        header.pop("__metadata__", None)
        return dict(header)
    except (OSError, struct.error, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not a {_SUFFIX} file: {error}") from error
