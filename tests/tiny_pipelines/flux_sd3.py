"""Stable Diffusion 3, Flux, Chroma and VisualCloze."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from diffusers import (
    ChromaTransformer2DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
)
from transformers import CLIPTextModelWithProjection

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.inputs import image_inputs, masks, photographs, pictures, prompts, with_control
from tiny_pipelines.parts import (
    SIZE,
    T5_LENGTH,
    WIDTH,
    certain,
    clip_text_encoder,
    clip_tokenizer,
    t5_encoder,
    t5_tokenizer,
    tiny_vae,
)

_SD3_SHAPE: dict[str, Any] = {
    "sample_size": SIZE // 2,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 2 * WIDTH,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 2 * WIDTH,
    "pos_embed_max_size": SIZE // 2,
}


def sd3(kind: type[DiffusionPipeline], channels: int = 4, **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of Stable Diffusion 3's components."""
    shape = _SD3_SHAPE | {"in_channels": channels, "out_channels": channels}
    components = {
        "transformer": SD3Transformer2DModel(num_layers=2, **shape),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": certain(tiny_vae(channels)),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5_encoder(2 * WIDTH),
        "tokenizer_3": t5_tokenizer(),
    }
    return kind(**components | more)


def _sd3_controlnet(kind: type[DiffusionPipeline], extra_channels: int = 0) -> DiffusionPipeline:
    controlnet = SD3ControlNetModel(
        num_layers=1, extra_conditioning_channels=extra_channels, **_SD3_SHAPE
    )
    return sd3(kind, controlnet=controlnet)


FLUX_SHAPE: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (4, 4, 8),
}
"""Four latent channels of 2 x 2 patches."""

_FLUX_SHAPE = FLUX_SHAPE | {"pooled_projection_dim": WIDTH, "guidance_embeds": True}


def flux(kind: type[DiffusionPipeline], in_channels: int = 16, **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of Flux's components."""
    shape = _FLUX_SHAPE | {"in_channels": in_channels, "out_channels": 16}
    components = {
        "scheduler": flux_scheduler(),
        "vae": tiny_vae(),
        "text_encoder": clip_text_encoder(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_encoder(),
        "tokenizer_2": t5_tokenizer(),
        "transformer": FluxTransformer2DModel(**shape),
    }
    return kind(**components | more)


def flux_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching, with a shift that depends on the picture's size."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def _flux_controlnet(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return flux(kind, controlnet=FluxControlNetModel(**_FLUX_SHAPE))


def _chroma(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    transformer = ChromaTransformer2DModel(
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
        **FLUX_SHAPE,
    )
    transformer.register_to_config(guidance_embeds=False)  # inpainting asks for this setting
    return kind(
        scheduler=flux_scheduler(),
        vae=tiny_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


def t5_inputs(batch: int, guidance_scale: float = 5.0) -> dict[str, Any]:
    """Arguments of a text-to-image call, for pipelines with a T5 encoder."""
    return image_inputs(batch, guidance_scale) | {"max_sequence_length": T5_LENGTH}


def _with_skipped_layers(batch: int) -> dict[str, Any]:
    """A third call in the middle of the run."""
    window = {"skip_layer_guidance_start": 0.2, "skip_layer_guidance_stop": 0.6}
    return t5_inputs(batch) | {"skip_guidance_layers": [0]} | window


def flux_inputs(batch: int) -> dict[str, Any]:
    """The guidance is embedded."""
    return t5_inputs(batch, 3.5)


def flux_cfg_inputs(batch: int) -> dict[str, Any]:
    """The guidance is embedded, and there is a second call for the negative prompt."""
    return flux_inputs(batch) | {"negative_prompt": ["dull"] * batch, "true_cfg_scale": 3.0}


def _from_picture(batch: int) -> dict[str, Any]:
    return t5_inputs(batch) | {"image": pictures(batch), "strength": 0.7}


def _inpaint(batch: int) -> dict[str, Any]:
    return _from_picture(batch) | {"mask_image": masks(batch)}


def _fill(batch: int) -> dict[str, Any]:
    return t5_inputs(batch, 30.0) | {"image": pictures(batch), "mask_image": masks(batch)}


def _controlled(batch: int) -> dict[str, Any]:
    return t5_inputs(batch) | {"control_image": 1 - pictures(batch)}


def _controlled_inpaint(batch: int) -> dict[str, Any]:
    return _controlled(batch) | {"control_mask": masks(batch)}


def _kontext(batch: int) -> dict[str, Any]:
    size = {"max_area": SIZE * SIZE, "_auto_resize": False}
    return flux_inputs(batch) | {"image": pictures(batch)} | size


def _kontext_inpaint(batch: int) -> dict[str, Any]:
    return _kontext(batch) | {"mask_image": masks(batch), "strength": 0.7}


def _cloze(batch: int) -> dict[str, Any]:
    """One solved example, and a picture whose counterpart is wanted; the prompts say what it is."""
    shown = photographs(3 * batch)
    grids = [[shown[3 * b : 3 * b + 2], [shown[3 * b + 2], None]] for b in range(batch)]
    return {
        "task_prompt": ["sketch to photograph"] * batch,
        "content_prompt": prompts(batch),
        "image": grids,
        "max_sequence_length": 256,
    }


def _cloze_and_enlarge(batch: int) -> dict[str, Any]:
    return _cloze(batch) | {"upsampling_height": 2 * SIZE, "upsampling_width": 2 * SIZE}


def entry(
    kind: type[DiffusionPipeline],
    build: Callable[..., DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    variant: str = "",
    **more: Any,
) -> TinyPipeline:
    """An entry named after the class, and a variant of it, whose denoiser is a transformer."""
    name = kind.__name__ + variant
    return TinyPipeline(name, kind, partial(build, kind), inputs, ("transformer",), **more)


controlnet_entry = partial(entry, side_networks=("controlnet",))

REFUSED = {"FluxPriorReduxPipeline": "no scheduler"}

_SD3 = [
    entry(
        diffusers.StableDiffusion3Pipeline,
        sd3,
        _with_skipped_layers,
        variant="/skip-layer",
        strict=False,
    ),
    entry(diffusers.StableDiffusion3Img2ImgPipeline, sd3, _from_picture),
    entry(diffusers.StableDiffusion3InpaintPipeline, partial(sd3, channels=16), _inpaint),
    entry(diffusers.StableDiffusion3PAGPipeline, sd3, t5_inputs),
    entry(diffusers.StableDiffusion3PAGImg2ImgPipeline, sd3, _from_picture),
    controlnet_entry(diffusers.StableDiffusion3ControlNetPipeline, _sd3_controlnet, _controlled),
    controlnet_entry(
        diffusers.StableDiffusion3ControlNetInpaintingPipeline,
        partial(_sd3_controlnet, extra_channels=1),
        _controlled_inpaint,
    ),
]

_FLUX = [
    entry(diffusers.FluxImg2ImgPipeline, flux, _from_picture),
    entry(diffusers.FluxInpaintPipeline, flux, _inpaint),
    entry(diffusers.FluxFillPipeline, partial(flux, in_channels=48), _fill),
    entry(diffusers.FluxKontextPipeline, flux, _kontext),
    entry(diffusers.FluxKontextInpaintPipeline, flux, _kontext_inpaint),
    entry(diffusers.FluxControlPipeline, partial(flux, in_channels=32), _controlled),
    entry(
        diffusers.FluxControlImg2ImgPipeline,
        partial(flux, in_channels=32),
        partial(with_control, _from_picture),
    ),
    entry(
        diffusers.FluxControlInpaintPipeline,
        partial(flux, in_channels=32),
        partial(with_control, _inpaint),
    ),
    controlnet_entry(diffusers.FluxControlNetPipeline, _flux_controlnet, _controlled),
    controlnet_entry(
        diffusers.FluxControlNetImg2ImgPipeline,
        _flux_controlnet,
        partial(with_control, _from_picture),
    ),
    controlnet_entry(
        diffusers.FluxControlNetInpaintPipeline,
        _flux_controlnet,
        partial(with_control, _inpaint),
    ),
]

PIPELINES: list[TinyPipeline] = [
    *_SD3,
    *_FLUX,
    entry(diffusers.ChromaPipeline, _chroma, t5_inputs),
    entry(diffusers.ChromaImg2ImgPipeline, _chroma, _from_picture),
    entry(diffusers.ChromaInpaintPipeline, _chroma, _inpaint),
    entry(
        diffusers.VisualClozeGenerationPipeline,
        partial(flux, in_channels=48, resolution=SIZE),
        _cloze,
    ),
    entry(
        diffusers.VisualClozePipeline,
        partial(flux, in_channels=48, resolution=SIZE),
        _cloze_and_enlarge,
    ),
]
