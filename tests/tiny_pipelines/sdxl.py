"""SDXL and Kolors."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import sentencepiece
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    ControlNetXSAdapter,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    T2IAdapter,
    UNet2DConditionModel,
)
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
from torch import nn
from transformers import CLIPTextModelWithProjection

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.inputs import image_inputs, masks, pictures, with_control
from tiny_pipelines.parts import (
    BETAS,
    CONDITION_CHANNELS,
    SIZE,
    UNET_SHAPE,
    WIDTH,
    clip_image_encoder,
    clip_image_processor,
    clip_text_encoder,
    clip_tokenizer,
    ip_adapter_weights,
    tiny_unet,
    tiny_vae,
)


def _conditioning(numbers: int) -> dict[str, Any]:
    """How a UNet is told so many numbers (the picture's sizes) beside the pooled text."""
    width = 8
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": width,
        "projection_class_embeddings_input_dim": numbers * width + WIDTH,
        "use_linear_projection": True,
    }


_SHAPE = UNET_SHAPE | _conditioning(6) | {"cross_attention_dim": 2 * WIDTH}


def sdxl_unet(**changes: Any) -> UNet2DConditionModel:
    """A UNet that is told the picture's sizes beside the pooled text."""
    return tiny_unet(**_SHAPE | changes)


def sdxl(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of SDXL's components."""
    components = {
        "vae": tiny_vae(),
        "text_encoder": clip_text_encoder(),
        "text_encoder_2": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "unet": sdxl_unet(),
        "scheduler": _euler(),
    }
    return kind(**components | more)


def _euler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)


def _refiner(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """The second stage has one text encoder, and heeds an aesthetic score."""
    return sdxl(
        kind,
        text_encoder=None,
        tokenizer=None,
        unet=sdxl_unet(cross_attention_dim=WIDTH, **_conditioning(5)),
        requires_aesthetics_score=True,
    )


def _inpainting_unet(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Its UNet sees the mask and the picture behind it."""
    return sdxl(kind, unet=sdxl_unet(in_channels=9))


def _instruct_pix2pix(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return sdxl(kind, unet=sdxl_unet(in_channels=8))


def _ip_adapter(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    pipe = sdxl(
        kind,
        image_encoder=clip_image_encoder(),
        feature_extractor=clip_image_processor(),
    )
    pipe.load_ip_adapter(ip_adapter_weights(pipe.unet), subfolder="", weight_name="")
    return pipe


def _adapter(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    adapter = T2IAdapter(
        channels=list(UNET_SHAPE["block_out_channels"]),
        num_res_blocks=1,
        downscale_factor=2,
        adapter_type="full_adapter",
    )
    return sdxl(kind, adapter=adapter)


def _controlnet(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    controlnet = ControlNetModel(conditioning_embedding_out_channels=CONDITION_CHANNELS, **_SHAPE)
    return sdxl(kind, controlnet=controlnet)


def _controlnet_union(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    width = UNET_SHAPE["block_out_channels"][0]
    controlnet = ControlNetUnionModel(
        conditioning_embedding_out_channels=CONDITION_CHANNELS,
        num_trans_channel=width,
        num_proj_channel=width,
        **_SHAPE,
    )
    return sdxl(kind, controlnet=controlnet)


def _controlnet_xs(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    unet = sdxl_unet(layers_per_block=2)  # the adapter has two
    controlnet = ControlNetXSAdapter.from_unet(
        unet, size_ratio=0.5, conditioning_embedding_out_channels=CONDITION_CHANNELS
    )
    return sdxl(kind, unet=unet, controlnet=controlnet)


def _kolors(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        vae=tiny_vae(),
        text_encoder=_chatglm_encoder(),
        tokenizer=_chatglm_tokenizer(),
        unet=sdxl_unet(encoder_hid_dim_type="text_proj", encoder_hid_dim=WIDTH),
        scheduler=_euler(),
    )


def _chatglm_tokenizer() -> ChatGLMTokenizer:
    """One token per printable ASCII character."""
    characters = "".join(map(chr, range(33, 127)))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([characters]),
        model_writer=model,
        model_type="char",
        vocab_size=98,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "tokenizer.model"
        vocabulary.write_bytes(model.getvalue())
        return ChatGLMTokenizer(str(vocabulary))


def _chatglm_encoder() -> ChatGLMModel:
    """Its layers come without weights."""
    encoder = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=112,
            hidden_size=WIDTH,
            ffn_hidden_size=WIDTH,
            kv_channels=16,
            num_attention_heads=2,
            seq_length=256,
            original_rope=True,
        )
    )
    for weight in encoder.parameters():
        nn.init.normal_(weight, std=0.2) if weight.ndim > 1 else nn.init.ones_(weight)
    return encoder


def _from_picture(batch: int) -> dict[str, Any]:
    inputs = image_inputs(batch) | {"image": pictures(batch), "strength": 0.7}
    return {name: value for name, value in inputs.items() if name not in ("height", "width")}


def _inpaint(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"image": pictures(batch), "mask_image": masks(batch)}


def _with_picture(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"image": pictures(batch)}


def _base_stage(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"denoising_end": 0.7}


def _refiner_stage(batch: int) -> dict[str, Any]:
    """It gets the first stage's latents."""
    latents = pictures(batch, channels=4, size=SIZE // 2)
    inputs = _from_picture(batch) | {"image": latents, "denoising_start": 0.3}
    return {name: value for name, value in inputs.items() if name != "strength"}


def _with_mode(inputs: Callable[[int], dict[str, Any]], batch: int) -> dict[str, Any]:
    return with_control(inputs, batch) | {"control_mode": 3}


def _with_picture_prompt(batch: int) -> dict[str, Any]:
    """One picture for all samples: the pipeline takes no batch of them."""
    return image_inputs(batch) | {"ip_adapter_image": pictures(1)}


def _entry(
    kind: type[DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    build: Callable[..., DiffusionPipeline] = sdxl,
    variant: str = "",
    **more: Any,
) -> TinyPipeline:
    name = kind.__name__ + variant
    return TinyPipeline(name, kind, partial(build, kind), inputs, ("unet",), **more)


_controlnet_entry = partial(_entry, side_networks=("controlnet",))

REFUSED = {"LEditsPPPipelineStableDiffusionXL": "edits the attention maps"}

PIPELINES: list[TinyPipeline] = [
    _entry(diffusers.StableDiffusionXLPipeline, _base_stage, variant="/base"),
    _entry(
        diffusers.StableDiffusionXLPipeline,
        _with_picture_prompt,
        _ip_adapter,
        variant="/ip-adapter",
    ),
    _entry(diffusers.StableDiffusionXLImg2ImgPipeline, _from_picture),
    _entry(
        diffusers.StableDiffusionXLImg2ImgPipeline,
        _refiner_stage,
        _refiner,
        variant="/refiner",
    ),
    _entry(diffusers.StableDiffusionXLInpaintPipeline, _inpaint),
    _entry(
        diffusers.StableDiffusionXLInpaintPipeline,
        _inpaint,
        _inpainting_unet,
        variant="/inpainting-unet",
    ),
    _entry(
        diffusers.StableDiffusionXLInstructPix2PixPipeline,
        _with_picture,
        _instruct_pix2pix,
    ),
    _entry(diffusers.StableDiffusionXLAdapterPipeline, _with_picture, _adapter),
    _controlnet_entry(diffusers.StableDiffusionXLControlNetPipeline, _with_picture, _controlnet),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline,
        partial(with_control, _from_picture),
        _controlnet,
    ),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetInpaintPipeline,
        partial(with_control, _inpaint),
        _controlnet,
    ),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetUnionPipeline,
        partial(_with_mode, image_inputs),
        _controlnet_union,
    ),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline,
        partial(_with_mode, _from_picture),
        _controlnet_union,
    ),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetUnionInpaintPipeline,
        partial(_with_mode, _inpaint),
        _controlnet_union,
    ),
    _entry(diffusers.StableDiffusionXLControlNetXSPipeline, _with_picture, _controlnet_xs),
    _entry(diffusers.StableDiffusionXLPAGPipeline, image_inputs),
    _entry(diffusers.StableDiffusionXLPAGImg2ImgPipeline, _from_picture),
    _entry(diffusers.StableDiffusionXLPAGInpaintPipeline, _inpaint),
    _controlnet_entry(diffusers.StableDiffusionXLControlNetPAGPipeline, _with_picture, _controlnet),
    _controlnet_entry(
        diffusers.StableDiffusionXLControlNetPAGImg2ImgPipeline,
        partial(with_control, _from_picture),
        _controlnet,
    ),
    _entry(diffusers.KolorsPipeline, image_inputs, _kolors),
    _entry(diffusers.KolorsImg2ImgPipeline, _from_picture, _kolors),
    _entry(diffusers.KolorsPAGPipeline, image_inputs, _kolors),
]
