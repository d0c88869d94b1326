"""Pictures, with a language model as encoder: Qwen-Image, Z-Image, Flux 2, LongCat, Ovis, Bria."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    BriaFibo2Transformer2DModel,
    BriaFiboTransformer2DModel,
    BriaTransformer2DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
    QwenImage21Transformer2DModel,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Siglip2ImageProcessorPil,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.flux_sd3 import FLUX_SHAPE, controlnet_entry, entry, flux_scheduler, t5_inputs
from tiny_pipelines.inputs import image_inputs, masks, photographs, pictures, prompts, with_control
from tiny_pipelines.parts import (
    QWEN_LANGUAGE,
    SIZE,
    WIDTH,
    certain,
    qwen3_encoder,
    qwen3_text_encoder,
    qwen_encoder,
    qwen_processor,
    qwen_tokenizer,
    t5_encoder,
    t5_tokenizer,
    tiny_vae,
    tiny_wan_vae,
)

_LENGTH = 64
"""Tokens that a prompt is filled up to."""

_QWEN_SHAPE: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (4, 4, 8),
}


def qwen_image(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of Qwen-Image's components."""
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
        "vae": certain(_qwen_vae()),
        "text_encoder": qwen_encoder(),
        "tokenizer": qwen_tokenizer(),
        "transformer": QwenImageTransformer2DModel(num_layers=2, **_QWEN_SHAPE),
    }
    return kind(**components | more)


def _qwen_vae(
    kind: type[AutoencoderKLQwenImage] = AutoencoderKLQwenImage, **more: Any
) -> AutoencoderKLQwenImage:
    settings = {
        "base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False],
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
    }
    return kind(**settings | more)


class _FarSightedVAE(AutoencoderKLQwenImage):
    """Sees every 32nd pixel: the pipelines for editing enlarge pictures to a megapixel."""

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        return super().encode(x[..., ::32, ::32], return_dict)

    @property
    def temperal_downsample(self) -> list[bool]:
        """As many as there were levels, if the levels made latents so small."""
        return [False] * 6

    @temperal_downsample.setter
    def temperal_downsample(self, value: list[bool]) -> None:
        pass


def _qwen_edit(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    components = {"vae": _qwen_vae(_FarSightedVAE), "processor": qwen_processor()}
    return qwen_image(kind, **components | more)


def _qwen_layered(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """It takes transparent pictures, and tells them from latents by their four channels."""
    channels = {"in_channels": 32, "out_channels": 8}
    transformer = QwenImageTransformer2DModel(
        num_layers=2,
        use_additional_t_cond=True,
        use_layer3d_rope=True,
        **_QWEN_SHAPE | channels,
    )
    numbers = {"z_dim": 8, "latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    vae = _qwen_vae(_FarSightedVAE, input_channels=4, **numbers)
    return _qwen_edit(kind, vae=vae, transformer=transformer)


def _qwen21(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        scheduler=flux_scheduler(),
        vae=AutoencoderKLQwenImage21(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=4,
            dim_mult=[1] * 5,
            num_res_blocks=1,
            temperal_downsample=[False] * 4,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=qwen3_encoder(),
        processor=qwen_processor(),
        transformer=QwenImage21Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def _qwen_controlnet(kind: type[DiffusionPipeline], extra_channels: int = 0) -> DiffusionPipeline:
    controlnet = QwenImageControlNetModel(
        num_layers=1, extra_condition_channels=extra_channels, **_QWEN_SHAPE
    )
    return qwen_image(kind, controlnet=controlnet)


def _z_image(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": tiny_vae(),
        "text_encoder": qwen3_text_encoder(),
        "tokenizer": qwen_tokenizer(),
        "transformer": _z_transformer(),
    }
    return kind(**components | more)


def _z_transformer(**changes: Any) -> ZImageTransformer2DModel:
    return ZImageTransformer2DModel(
        in_channels=4,
        n_layers=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 4, 8],
        axes_lens=[256, 32, 32],
        **_Z_SHAPE | changes,
    )


def _z_omni(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """It sees pictures through SigLIP 2, and encodes them in bfloat16."""
    sight = Siglip2VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=8,
        num_patches=16,
    )
    return _z_image(
        kind,
        vae=tiny_vae().to(torch.bfloat16),
        transformer=_z_transformer(siglip_feat_dim=WIDTH),
        siglip=Siglip2VisionModel(sight),
        siglip_processor=Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16),
    )


_Z_SHAPE = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}


def _z_controlnet(kind: type[DiffusionPipeline], channels: int = 4) -> DiffusionPipeline:
    controlnet = ZImageControlNetModel(
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=channels,
        add_control_noise_refiner="control_noise_refiner",
        **_Z_SHAPE,
    )
    return _z_image(kind, controlnet=controlnet)


def _flux2_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )


def _flux2(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    components = {
        "scheduler": flux_scheduler(),
        "vae": _flux2_vae(),
        "text_encoder": qwen3_text_encoder(),
        "tokenizer": qwen_tokenizer(),
        "transformer": Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=2 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=kind is diffusers.Flux2Pipeline,
        ),
    }
    return kind(**components | more)


def _flux2_dev(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Its text encoder is Mistral 3, which can see, but is never shown anything."""
    sight = {
        "model_type": "pixtral",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": 8,
    }
    language = QWEN_LANGUAGE | {"model_type": "mistral", "head_dim": 16}
    settings = Mistral3Config(text_config=language, vision_config=sight)
    return _flux2(kind, text_encoder=Mistral3ForConditionalGeneration(settings))


def _longcat(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    shape = FLUX_SHAPE | {"in_channels": 64}  # the pipeline takes 16 latent channels for granted
    components = {
        "scheduler": flux_scheduler(),
        "vae": tiny_vae(16),
        "text_encoder": qwen_encoder(),
        "tokenizer": qwen_tokenizer(),
        "text_processor": qwen_processor(),
        "transformer": LongCatImageTransformer2DModel(pooled_projection_dim=WIDTH, **shape),
    }
    pipe = kind(**components | more)
    pipe.tokenizer_max_length = _LENGTH
    return pipe


def _longcat_edit(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """The pipeline enlarges pictures to 1024 x 1024, so the VAE has many small levels."""
    return _longcat(kind, vae=tiny_vae(16, widths=(4,) * 7))


def _ovis(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        scheduler=flux_scheduler(),
        vae=tiny_vae(),
        text_encoder=qwen3_text_encoder().model,
        tokenizer=qwen_tokenizer(),
        transformer=OvisImageTransformer2DModel(out_channels=16, **FLUX_SHAPE),
    )


def _bria(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        scheduler=flux_scheduler(),
        vae=tiny_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=BriaTransformer2DModel(**FLUX_SHAPE),
    )


def _fibo(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Both of the encoder's layers are attended to, and a block's own layer in each block."""
    shape = FLUX_SHAPE | {"joint_attention_dim": 2 * WIDTH}
    return kind(
        scheduler=flux_scheduler(),
        vae=tiny_wan_vae(),
        text_encoder=SmolLM3ForCausalLM(SmolLM3Config(**QWEN_LANGUAGE)),
        tokenizer=qwen_tokenizer(),
        transformer=BriaFiboTransformer2DModel(text_encoder_dim=WIDTH, **shape),
    )


def _fibo2(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """All of the encoder's layers are attended to, twice."""
    pipe = kind(
        transformer=BriaFibo2Transformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            cap_feat_dim=3 * WIDTH,
            injection_layer_ids=(1,),
            perceiver_num_layers=1,
            min_num_gist_tokens=4,
            max_num_gist_tokens=8,
            gist_step=4,
            gist_min_text_len=4,
            axes_dims=(4, 4, 8),
            axes_lens=(32, 32, 32),
        ),
        scheduler=flux_scheduler(),
        vae=_flux2_vae(),
        text_encoder=qwen3_encoder(),
        processor=qwen_processor(),
    )
    pipe.text_encoder_out_layers = ((0, 1, 2), (0, 1, 2))
    return pipe


def qwen_inputs(batch: int) -> dict[str, Any]:
    """Much guidance: the random network hardly heeds its prompt."""
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "true_cfg_scale": 20.0,
        "height": SIZE,
        "width": SIZE,
    }


def _qwen_edit_inputs(batch: int) -> dict[str, Any]:
    inputs = qwen_inputs(batch) | {"image": photographs(batch)}
    return {name: value for name, value in inputs.items() if name not in ("height", "width")}


def _qwen_edit_inpaint(batch: int) -> dict[str, Any]:
    return _qwen_edit_inputs(batch) | {"mask_image": masks(batch), "strength": 0.7}


def _qwen_layers(batch: int) -> dict[str, Any]:
    """The picture may be transparent. It gives no latents, and mixes up the layers of a batch."""
    picture = photographs(1)[0].convert("RGBA")
    return _qwen_edit_inputs(batch) | {"image": picture, "layers": 2, "output_type": "pt"}


def _qwen21_inputs(batch: int) -> dict[str, Any]:
    """Prompts of one length: beside a longer one, a prompt makes another picture."""
    texts = [f"{prompt:<16}" for prompt in prompts(batch)]
    return qwen_inputs(batch) | {"prompt": texts, "height": 2 * SIZE, "width": 2 * SIZE}


def _qwen21_edit(batch: int) -> dict[str, Any]:
    return _qwen21_inputs(batch) | {"image": photographs(1)[0], "output_resolution": 2 * SIZE}


def _short(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"max_sequence_length": _LENGTH}


def _z_omni_inputs(batch: int) -> dict[str, Any]:
    """One picture for all samples."""
    return _short(batch) | {"image": photographs(1, 2 * SIZE)[0]}


def _with_picture(inputs: Callable[[int], dict[str, Any]], batch: int) -> dict[str, Any]:
    return inputs(batch) | {"image": pictures(batch), "strength": 0.7}


def _with_mask(inputs: Callable[[int], dict[str, Any]], batch: int) -> dict[str, Any]:
    return _with_picture(inputs, batch) | {"mask_image": masks(batch)}


def _with_control_mask(batch: int) -> dict[str, Any]:
    return with_control(qwen_inputs, batch) | {"control_mask": masks(batch)}


def _controlled_inpaint(batch: int) -> dict[str, Any]:
    inputs = with_control(_short, batch)
    return inputs | {"image": pictures(batch), "mask_image": masks(batch)}


def _flux2_inputs(batch: int) -> dict[str, Any]:
    return _short(batch) | {"text_encoder_out_layers": (1, 2)}


def _flux2_edit(batch: int) -> dict[str, Any]:
    """One picture for all samples, of the smallest size that the pipeline takes."""
    return _flux2_inputs(batch) | {"image": photographs(1, 2 * SIZE)[0]}


def _flux2_cached(batch: int) -> dict[str, Any]:
    """The first step's keys and values of the picture are kept for the others."""
    inputs = _flux2_edit(batch)
    del inputs["guidance_scale"]
    return inputs


def _longcat_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {
        "negative_prompt": ["dull"] * batch,
        "enable_prompt_rewrite": False,
    }


def _longcat_edit_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(batch), "negative_prompt": "dull", "image": photographs(1)[0]}


def _ovis_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"negative_prompt": ["dull"] * batch, "max_sequence_length": 256}


def _fibo_inputs(batch: int) -> dict[str, Any]:
    size = {"height": 4 * SIZE, "width": 4 * SIZE}  # latents are 16 times smaller
    return image_inputs(batch) | {"negative_prompt": ["dull"] * batch} | size


def _fibo_edit_inputs(batch: int) -> dict[str, Any]:
    """One picture for all samples."""
    orders = [f'{{"edit_instruction": "{prompt}"}}' for prompt in prompts(batch)]
    picture = {"image": photographs(1, 2 * SIZE)[0], "_auto_resize": False}
    return _fibo_inputs(batch) | {"prompt": orders} | picture


def _fibo2_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"negative_prompt": ["dull"] * batch}


def _fibo2_edit(batch: int) -> dict[str, Any]:
    """One picture for all samples."""
    return _fibo2_inputs(batch) | {"image": photographs(1)[0]}


_QWEN = [
    entry(diffusers.QwenImageImg2ImgPipeline, qwen_image, partial(_with_picture, qwen_inputs)),
    entry(diffusers.QwenImageInpaintPipeline, qwen_image, partial(_with_mask, qwen_inputs)),
    controlnet_entry(
        diffusers.QwenImageControlNetPipeline,
        _qwen_controlnet,
        partial(with_control, qwen_inputs),
    ),
    controlnet_entry(
        diffusers.QwenImageControlNetInpaintPipeline,
        partial(_qwen_controlnet, extra_channels=4),
        _with_control_mask,
    ),
]

_EDITS = [
    entry(diffusers.QwenImageEditPipeline, _qwen_edit, _qwen_edit_inputs),
    entry(diffusers.QwenImageEditInpaintPipeline, _qwen_edit, _qwen_edit_inpaint),
    entry(diffusers.QwenImageEditPlusPipeline, _qwen_edit, _qwen_edit_inputs, batches=False),
    entry(diffusers.QwenImageLayeredPipeline, _qwen_layered, _qwen_layers, batches=False),
    entry(diffusers.QwenImage21Pipeline, _qwen21, _qwen21_inputs),
    entry(diffusers.QwenImage21Pipeline, _qwen21, _qwen21_edit, variant="/edit"),
    entry(diffusers.LongCatImageEditPipeline, _longcat_edit, _longcat_edit_inputs, batches=False),
    entry(diffusers.BriaFiboEditPipeline, _fibo, _fibo_edit_inputs),
    entry(diffusers.BriaFibo2Pipeline, _fibo2, _fibo2_edit, variant="/edit"),
    entry(diffusers.ZImageOmniPipeline, _z_omni, _z_omni_inputs, whole="laid out differently"),
]

_Z_IMAGE = [
    entry(diffusers.ZImagePipeline, _z_image, _short),
    entry(diffusers.ZImageImg2ImgPipeline, _z_image, partial(_with_picture, _short)),
    entry(diffusers.ZImageInpaintPipeline, _z_image, partial(_with_mask, _short)),
    controlnet_entry(
        diffusers.ZImageControlNetPipeline, _z_controlnet, partial(with_control, _short)
    ),
    controlnet_entry(
        diffusers.ZImageControlNetInpaintPipeline,
        partial(_z_controlnet, channels=9),
        _controlled_inpaint,
    ),
]

_FLUX2 = [
    entry(diffusers.Flux2Pipeline, _flux2_dev, _flux2_edit),
    entry(diffusers.Flux2KleinPipeline, _flux2, _flux2_inputs),
    entry(diffusers.Flux2KleinPipeline, _flux2, _flux2_edit, variant="/edit"),
    entry(diffusers.Flux2KleinInpaintPipeline, _flux2, partial(_with_mask, _flux2_inputs)),
    entry(diffusers.Flux2KleinKVPipeline, _flux2, _flux2_cached),
]

PIPELINES: list[TinyPipeline] = [
    *_QWEN,
    *_Z_IMAGE,
    *_FLUX2,
    entry(diffusers.LongCatImagePipeline, _longcat, _longcat_inputs),
    entry(diffusers.OvisImagePipeline, _ovis, _ovis_inputs),
    entry(diffusers.BriaPipeline, _bria, t5_inputs),
    entry(diffusers.BriaFiboPipeline, _fibo, _fibo_inputs),
    entry(diffusers.BriaFibo2Pipeline, _fibo2, _fibo2_inputs),
    *_EDITS,
]
