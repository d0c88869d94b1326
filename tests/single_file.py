"""A Stable Diffusion as one `.safetensors` file, with the weights' names of its first code.

The inverse of what diffusers does when it loads such a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["save_single_file"]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(pipe: Any, file: Path) -> None:
    """Writes UNet, VAE and text encoder."""
    weights: dict[str, Tensor] = {}
    layers = pipe.unet.config.layers_per_block
    for name, weight in pipe.unet.state_dict().items():
        weights[f"model.diffusion_model.{_unet_name(name, layers)}"] = weight
    levels = len(pipe.vae.config.block_out_channels)
    for name, weight in _vae_weights(pipe.vae.state_dict(), levels):
        weights[f"first_stage_model.{name}"] = weight
    for name, weight in pipe.text_encoder.state_dict().items():
        plain = name.removeprefix("text_model.")
        weights[f"cond_stage_model.transformer.text_model.{plain}"] = weight
    save_file({name: weight.contiguous() for name, weight in weights.items()}, file)


def _unet_name(name: str, layers: int) -> str:
    block = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if block:
        way, level, kind, index, rest = block.groups()
        place = int(level) * (layers + 1) + int(index)
        if kind == "downsamplers":
            return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks.{int(level) * (layers + 1) + layers}.1.{rest}"
        start = f"input_blocks.{place + 1}" if way == "down" else f"output_blocks.{place}"
        return f"{start}.0.{_resnet(rest)}" if kind == "resnets" else f"{start}.1.{rest}"
    middle = re.match(r"mid_block\.(\w+\.\d+)\.(.*)", name)
    if middle:
        part, rest = middle.groups()
        return f"middle_block.{_MIDDLE[part]}.{_resnet(rest) if 'resnets' in part else rest}"
    return _renamed(name, _UNET)


def _resnet(name: str) -> str:
    return _renamed(name, _RESNET)


def _renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        if name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    return name


def _vae_weights(weights: dict[str, Tensor], levels: int) -> Iterator[tuple[str, Tensor]]:
    for name, weight in weights.items():
        theirs = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        theirs = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", theirs)
        theirs = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", theirs)
        theirs = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", theirs)
        theirs = re.sub(
            r"up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)",
            lambda m: (
                f"up.{levels - 1 - int(m[1])}."
                + (f"block.{m[3]}" if m[2] == "resnets" else "upsample")
            ),
            theirs,
        )
        attention = re.match(r"(.*)mid_block\.attentions\.0\.(.*)", theirs)
        if attention:
            theirs = f"{attention[1]}mid.attn_1.{_renamed(attention[2], _ATTENTION)}"
            if weight.ndim == 2:
                weight = weight[..., None, None]  # theirs are convolutions of one pixel
        yield theirs, weight
