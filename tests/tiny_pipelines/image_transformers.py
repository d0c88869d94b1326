"""Other image transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import MagicMock

import diffusers
import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanImage,
    AutoencoderKLHunyuanImageRefiner,
    AutoencoderTiny,
    CogVideoXDDIMScheduler,
    CogView3PlusTransformer2DModel,
    CogView4Transformer2DModel,
    CosmosTransformer3DModel,
    DDPMScheduler,
    DiffusionPipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    GlmImageTransformer2DModel,
    HiDreamImageTransformer2DModel,
    HunyuanDiT2DControlNetModel,
    HunyuanDiT2DModel,
    HunyuanImageTransformer2DModel,
    Ideogram4Transformer2DModel,
    JoyImageEditPlusTransformer3DModel,
    JoyImageEditTransformer3DModel,
    Kandinsky5Transformer3DModel,
    Krea2Transformer2DModel,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    ModelMixin,
    NucleusMoEImageTransformer2DModel,
    OmniGenTransformer2DModel,
    PRXTransformer2DModel,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
)
from diffusers.guiders import AdaptiveProjectedMixGuidance
from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel
from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextModelWithProjection,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Tokenizer,
)

from tiny_pipelines import core
from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.inputs import even_prompts, image_inputs, photographs, pictures, prompts
from tiny_pipelines.parts import (
    BETAS,
    CLIP_LENGTH,
    SIZE,
    T5_LENGTH,
    WIDTH,
    certain,
    chat_tokenizer,
    clip_text_encoder,
    clip_tokenizer,
    gemma_encoder,
    qwen3_encoder,
    qwen_encoder,
    qwen_tokenizer,
    t5_encoder,
    t5_tokenizer,
    tiny_vae,
    tiny_wan_vae,
)


def auraflow() -> DiffusionPipeline:
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        vae=tiny_vae(),
        transformer=AuraFlowTransformer2DModel(
            sample_size=SIZE // 2,
            in_channels=4,
            out_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=WIDTH,
            pos_embed_max_size=64,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def pixart_sigma(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(**core.pixart().components)


def sana(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Any of Sana's pipelines; its autoencoder here makes pictures half as large, not a 32nd."""
    blocks = ("ResBlock", "EfficientViTBlock")
    components = {
        "tokenizer": qwen_tokenizer(),
        "text_encoder": gemma_encoder(),
        "vae": AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
        ),
        "transformer": SanaTransformer2DModel(**SANA_SHAPE),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return kind(**components | more)


SANA_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 16,
    "cross_attention_dim": WIDTH,
    "caption_channels": WIDTH,
    "sample_size": SIZE // 2,
}


def sana_sprint(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Distilled to few steps: guidance goes in as a number, and every step adds noise."""
    transformer = SanaTransformer2DModel(
        **SANA_SHAPE, guidance_embeds=True, qk_norm="rms_norm_across_heads"
    )
    return sana(kind, transformer=transformer, scheduler=SCMScheduler())


def sana_controlnet() -> DiffusionPipeline:
    return sana(diffusers.SanaControlNetPipeline, controlnet=SanaControlNetModel(**SANA_SHAPE))


def sana_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {
        "use_resolution_binning": False,
        "max_sequence_length": T5_LENGTH,
        "complex_human_instruction": None,
    }


def sana_sprint_inputs(batch: int) -> dict[str, Any]:
    """The timestep between the first and the last is only for two steps."""
    return sana_inputs(batch) | {"intermediate_timesteps": None}


def sana_sprint_img2img_inputs(batch: int) -> dict[str, Any]:
    return sana_sprint_inputs(batch) | {"image": pictures(batch), "strength": 0.7}


def sana_controlnet_inputs(batch: int) -> dict[str, Any]:
    return sana_inputs(batch) | {"control_image": pictures(batch)}


def lumina() -> DiffusionPipeline:
    return diffusers.LuminaPipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=gemma_encoder(),
        vae=tiny_vae(widths=(8,) * 4),
        transformer=LuminaNextDiT2DModel(
            sample_size=8,
            hidden_size=32,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            cross_attention_dim=WIDTH,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def lumina2() -> DiffusionPipeline:
    return diffusers.Lumina2Pipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=gemma_encoder(),
        vae=tiny_vae(widths=(8,) * 4),
        transformer=Lumina2Transformer2DModel(
            sample_size=8,
            in_channels=4,
            hidden_size=32,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 6, 6),
            axes_lens=(100, 16, 16),
            cap_feat_dim=WIDTH,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def larger_inputs(batch: int) -> dict[str, Any]:
    """For pipelines that take latents for eight times smaller than pictures."""
    return image_inputs(batch) | {"height": 2 * SIZE, "width": 2 * SIZE}


def lumina_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {"negative_prompt": ["dull"] * batch, "clean_caption": False}


def lumina2_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {"system_prompt": "paint", "max_sequence_length": 40}


def lumina2_truncated_inputs(batch: int) -> dict[str, Any]:
    """In the last third of the steps guidance ends, and with it the second call."""
    return lumina2_inputs(batch) | {"cfg_trunc_ratio": 0.7}


def omnigen() -> DiffusionPipeline:
    """Torchvision makes its transform of pictures, which prompts never call: hollow here."""
    processor_omnigen.transforms = MagicMock()
    pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor
    tokenizer = qwen_tokenizer()
    return diffusers.OmniGenPipeline(
        transformer=OmniGenTransformer2DModel(
            hidden_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            num_layers=1,
            pad_token_id=0,
            vocab_size=len(tokenizer),
            pos_embed_max_size=SIZE // 2,
            time_step_dim=32,
            rope_scaling={"short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
        vae=tiny_vae(widths=(8,) * 4),
        tokenizer=tokenizer,
    )


def omnigen_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {"prompt": even_prompts(batch)}


HUNYUAN_DIT_SHAPE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "patch_size": 2,
    "sample_size": 8,
    "hidden_size": 32,
    "cross_attention_dim": WIDTH,
    "cross_attention_dim_t5": WIDTH,
    "pooled_projection_dim": WIDTH,
    "text_len": CLIP_LENGTH,
    "text_len_t5": 256,
}


def hunyuan_dit(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    tokenizer = clip_tokenizer()
    bert = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return kind(
        vae=certain(tiny_vae(widths=(8,) * 4)),
        text_encoder=BertModel(bert),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=HunyuanDiT2DModel(num_layers=2, **HUNYUAN_DIT_SHAPE),
        scheduler=DDPMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )


def hunyuan_dit_controlnet() -> DiffusionPipeline:
    return hunyuan_dit(
        diffusers.HunyuanDiTControlNetPipeline,
        controlnet=HunyuanDiT2DControlNetModel(transformer_num_layers=2, **HUNYUAN_DIT_SHAPE),
    )


def hunyuan_dit_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {"use_resolution_binning": False}


def hunyuan_dit_controlnet_inputs(batch: int) -> dict[str, Any]:
    return hunyuan_dit_inputs(batch) | {"control_image": pictures(batch, size=2 * SIZE)}


HUNYUAN_IMAGE_SHAPE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": WIDTH,
}


def without_template(pipe: Any) -> DiffusionPipeline:
    """Prompts as they are: the chat around them would be hundreds of byte tokens."""
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
    pipe.tokenizer_max_length = T5_LENGTH
    return pipe


def hunyuan_image() -> DiffusionPipeline:
    return without_template(
        diffusers.HunyuanImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderKLHunyuanImage(
                in_channels=3,
                out_channels=3,
                latent_channels=8,
                block_out_channels=(32, 32),
                layers_per_block=1,
                spatial_compression_ratio=2,
                sample_size=SIZE,
                scaling_factor=0.5,
            ),
            text_encoder=qwen_encoder(),
            tokenizer=qwen_tokenizer(),
            text_encoder_2=t5_encoder(),
            tokenizer_2=t5_tokenizer(),
            transformer=HunyuanImageTransformer2DModel(
                **HUNYUAN_IMAGE_SHAPE,
                in_channels=8,
                out_channels=8,
                patch_size=(2, 2),
                text_embed_2_dim=WIDTH,
                rope_axes_dim=(8, 8),
            ),
            guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        )
    )


def hunyuan_image_refiner() -> DiffusionPipeline:
    return without_template(
        diffusers.HunyuanImageRefinerPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderKLHunyuanImageRefiner(
                latent_channels=4,
                block_out_channels=(8, 8, 8),
                layers_per_block=1,
                spatial_compression_ratio=4,
                temporal_compression_ratio=4,
            ),
            text_encoder=qwen_encoder(),
            tokenizer=qwen_tokenizer(),
            transformer=HunyuanImageTransformer2DModel(
                **HUNYUAN_IMAGE_SHAPE,
                in_channels=16,
                out_channels=8,
                patch_size=(1, 1, 1),
                guidance_embeds=True,
                rope_axes_dim=(4, 6, 6),
            ),
        )
    )


def hunyuan_image_inputs(batch: int) -> dict[str, Any]:
    """Quotation marks: the words between them are read by a second encoder."""
    return {
        "prompt": [f'"{p}"' for p in prompts(batch)],
        "negative_prompt": ["dull"] * batch,
        "height": SIZE,
        "width": SIZE,
    }


def hunyuan_image_refiner_inputs(batch: int) -> dict[str, Any]:
    size = {"height": SIZE, "width": SIZE}
    return {"prompt": prompts(batch), "image": pictures(batch), **size}


def cogview3plus() -> DiffusionPipeline:
    return diffusers.CogView3PlusPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=tiny_vae(),
        transformer=CogView3PlusTransformer2DModel(
            in_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=WIDTH,
            time_embed_dim=32,
            condition_dim=8,
            pos_embed_max_size=16,
            sample_size=SIZE // 2,
        ),
        scheduler=CogVideoXDDIMScheduler(
            **BETAS, prediction_type="v_prediction", clip_sample=False
        ),
    )


def cogview3plus_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"max_sequence_length": T5_LENGTH}


def cogview4(kind: type[DiffusionPipeline], channels: int = 4) -> DiffusionPipeline:
    tokenizer = qwen_tokenizer()
    tokenizer.padding_side = "left"
    glm = GlmConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.2,
    )
    return kind(
        tokenizer=tokenizer,
        text_encoder=GlmModel(glm),
        vae=certain(tiny_vae()),
        transformer=CogView4Transformer2DModel(
            in_channels=channels,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=WIDTH,
            time_embed_dim=32,
            condition_dim=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )


def cogview4_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"negative_prompt": ["dull"] * batch}


def cogview4_control_inputs(batch: int) -> dict[str, Any]:
    return cogview4_inputs(batch) | {"control_image": pictures(batch)}


def kandinsky5_transformer(**changes: Any) -> Kandinsky5Transformer3DModel:
    return Kandinsky5Transformer3DModel(
        **{
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": WIDTH,
            "in_text_dim2": WIDTH,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 32,
            "num_text_blocks": 1,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
        }
        | changes
    )


def kandinsky5(
    kind: type[DiffusionPipeline], vae: ModelMixin | None = None, **changes: Any
) -> DiffusionPipeline:
    pipe = kind(
        transformer=kandinsky5_transformer(**changes),
        vae=vae or tiny_vae(widths=(8,) * 4),
        text_encoder=qwen_encoder(),
        tokenizer=chat_tokenizer(),
        text_encoder_2=clip_text_encoder(),
        tokenizer_2=clip_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipe.resolutions = [(2 * SIZE, 2 * SIZE)]
    pipe.prompt_template, pipe.prompt_template_encode_start_idx = "{}", 0
    return pipe


def kandinsky5_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {
        "prompt": even_prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "max_sequence_length": T5_LENGTH,
    }


def kandinsky5_i2i_inputs(batch: int) -> dict[str, Any]:
    """With what its encoders make of prompt and picture: their processor needs torchvision."""
    inputs: dict[str, Any] = {"image": photographs(batch), "height": 2 * SIZE, "width": 2 * SIZE}
    for seed, sign in enumerate(("", "negative_")):
        generator = torch.Generator().manual_seed(seed)
        inputs[f"{sign}prompt_embeds_qwen"] = torch.randn(batch, 8, WIDTH, generator=generator)
        inputs[f"{sign}prompt_embeds_clip"] = torch.randn(batch, WIDTH, generator=generator)
        inputs[f"{sign}prompt_cu_seqlens"] = 8 * torch.arange(batch + 1, dtype=torch.int32)
    return inputs


def hidream() -> DiffusionPipeline:
    tokenizer = qwen_tokenizer()
    tokenizer.model_max_length = T5_LENGTH
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        attn_implementation="eager",
        initializer_range=0.2,
    )
    pipe = diffusers.HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text_encoder(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(),
        tokenizer_3=t5_tokenizer(),
        text_encoder_4=LlamaForCausalLM(llama),
        tokenizer_4=tokenizer,
        transformer=HiDreamImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_channels=[WIDTH, WIDTH],
            text_emb_dim=2 * WIDTH,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=(8, 4, 4),
            max_resolution=(SIZE // 2, SIZE // 2),
            llama_layers=[0, 1],
            force_inference_output=True,
        ),
    )
    pipe.default_sample_size = SIZE // 2  # it scales what is asked for to about this size
    return pipe


def hidream_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"max_sequence_length": T5_LENGTH}


def prx(kind: type[DiffusionPipeline], channels: int, **more: Any) -> DiffusionPipeline:
    return kind(
        transformer=PRXTransformer2DModel(
            in_channels=channels,
            context_in_dim=WIDTH,
            hidden_size=32,
            num_heads=2,
            depth=2,
            axes_dim=[8, 8],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=gemma_encoder(),
        tokenizer=prx_tokenizer(),
        **more,
    )


def prx_tokenizer() -> Qwen2Tokenizer:
    tokenizer = qwen_tokenizer()
    tokenizer.model_max_length = T5_LENGTH
    return tokenizer


def prx_inputs(batch: int) -> dict[str, Any]:
    """Without guidance: with it, its own call fails where a batch has more than one sample."""
    return image_inputs(batch, 1.0) | {
        "use_resolution_binning": False,
        "skip_text_cleaning": True,
    }


def prx_pixel_inputs(batch: int) -> dict[str, Any]:
    """It cleans prompts with a package of its own, so here they come encoded."""
    generators = [torch.Generator().manual_seed(b) for b in range(batch)]
    features = [torch.randn(1, T5_LENGTH, WIDTH, generator=generator) for generator in generators]
    return {
        "prompt_embeds": torch.cat(features),
        "prompt_attention_mask": torch.ones(batch, T5_LENGTH, dtype=torch.bool),
        "guidance_scale": 1.0,
        "height": SIZE,
        "width": SIZE,
        "use_resolution_binning": False,
    }


def prx_guided_inputs(batch: int) -> dict[str, Any]:
    return prx_inputs(batch) | {"guidance_scale": 5.0}


def flux2_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )


def ideogram4() -> DiffusionPipeline:
    """Guided by a second, unconditional denoiser; text features come from 13 of 36 layers."""
    transformers = [
        Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=13 * WIDTH,
            mrope_section=(4, 2, 2),
        )
        for _ in range(2)
    ]
    return diffusers.Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flux2_vae(),
        text_encoder=qwen3_encoder(layers=36).model,
        tokenizer=chat_tokenizer(),
        transformer=transformers[0],
        unconditional_transformer=transformers[1],
    )


def ideogram4_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"guidance_schedule": None, "max_sequence_length": T5_LENGTH}


def krea2() -> DiffusionPipeline:
    pipe = diffusers.Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=core.qwen_image().vae,
        text_encoder=qwen3_encoder().model,
        tokenizer=qwen_tokenizer(),
        transformer=Krea2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
            timestep_embed_dim=32,
            text_hidden_dim=WIDTH,
            num_text_layers=2,
            text_num_attention_heads=2,
            text_num_key_value_heads=2,
            text_intermediate_size=32,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 6, 6),
        ),
        text_encoder_select_layers=(1, 2),
    )
    pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_suffix = "", "."
    pipe.prompt_template_encode_start_idx = 0
    pipe.prompt_template_encode_num_suffix_tokens = 1
    return pipe


def krea2_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {
        "negative_prompt": ["dull"] * batch,
        "max_sequence_length": T5_LENGTH,
    }


def nucleus() -> DiffusionPipeline:
    """A mixture of experts: the first three layers and the last are dense, one is not."""
    pipe = diffusers.NucleusMoEImagePipeline(
        transformer=NucleusMoEImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=5,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
            num_experts=2,
            moe_intermediate_dim=16,
            capacity_factors=[2.0] * 5,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=core.qwen_image().vae,
        text_encoder=qwen3_encoder(),
        processor=chat_tokenizer(),
    )
    pipe.default_return_index = -1
    for weight in pipe.transformer.parameters():
        if weight.ndim == 3:  # the experts' are left as the memory was
            torch.nn.init.normal_(weight, std=0.2)
    return pipe


def ernie() -> DiffusionPipeline:
    return diffusers.ErnieImagePipeline(
        transformer=ErnieImageTransformer2DModel(
            hidden_size=32,
            num_attention_heads=2,
            num_layers=2,
            ffn_hidden_size=32,
            in_channels=16,
            out_channels=16,
            text_in_dim=WIDTH,
            rope_axes_dim=(4, 6, 6),
        ),
        vae=flux2_vae(),
        text_encoder=gemma_encoder(),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def ernie_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"negative_prompt": ["dull"] * batch, "use_pe": False}


def dreamlite(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """A UNet that sees the latents and, to their right, those of a picture to edit, or nothing."""
    pipe = kind(
        text_encoder=qwen3_encoder(),
        tokenizer=qwen_tokenizer(),
        processor=chat_tokenizer(),
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        unet=DreamLiteUNetModel(
            sample_size=SIZE // 2,
            down_block_types=(
                "DreamLiteCrossAttnNoSelfAttnDownBlock2D",
                "DreamLiteCrossAttnDownBlock2D",
            ),
            up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            addition_embed_type="time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    pipe.prompt_template_encode_generate = "{}"
    pipe.prompt_template_encode_generate_start_idx = 0
    return pipe


def dreamlite_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(1)[0], "negative_prompt": "dull", "height": SIZE, "width": SIZE}


def dreamlite_mobile_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(1)[0], "height": SIZE, "width": SIZE}


def glm_image() -> DiffusionPipeline:
    """The model that writes the tokens of a coarse picture is left out."""
    return diffusers.GlmImagePipeline(
        tokenizer=t5_tokenizer(),
        processor=None,
        text_encoder=t5_encoder(),
        vision_language_encoder=None,
        vae=tiny_vae(),
        transformer=GlmImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=WIDTH,
            time_embed_dim=32,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def glm_image_inputs(batch: int) -> dict[str, Any]:
    """Words in quotation marks are read by the text encoder; one token per patch is given."""
    generators = [torch.Generator().manual_seed(b) for b in range(batch)]
    tokens = [torch.randint(32, (1, 64), generator=generator) for generator in generators]
    return image_inputs(batch, 3.0) | {
        "prompt": [f'"{prompt}"' for prompt in even_prompts(batch)],
        "prior_token_ids": torch.cat(tokens),
    }


def joyimage(kind: type[DiffusionPipeline], denoiser: type[torch.nn.Module]) -> DiffusionPipeline:
    pipe = kind(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny_wan_vae(),
        text_encoder=qwen3_encoder(),
        tokenizer=qwen_tokenizer(),
        transformer=denoiser(
            hidden_size=32,
            num_attention_heads=2,
            text_dim=WIDTH,
            num_layers=2,
            rope_dim_list=[4, 6, 6],
        ),
        processor=chat_tokenizer(),
        text_token_max_length=T5_LENGTH,
    )
    pipe.prompt_template_encode = {"image": "{}", "multiple_images": "{}"}
    pipe.prompt_template_encode_start_idx = {"image": 0, "multiple_images": 0}
    if kind is diffusers.JoyImageEditPipeline:  # it makes pictures of some large sizes only
        pipe.vae_image_processor.get_default_height_width = lambda image, *size: size
    return pipe


def joyimage_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {
        "prompt": even_prompts(batch),
        "negative_prompt": ["dull"] * batch,
    }


class Harmless:
    """In place of the safety checker, which is a package of its own."""

    def to(self, device: Any) -> None:
        """It has no weights."""

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def cosmos_transformer(**changes: Any) -> CosmosTransformer3DModel:
    return CosmosTransformer3DModel(
        **{
            "in_channels": 16,
            "out_channels": 16,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "mlp_ratio": 2,
            "text_embed_dim": WIDTH,
            "adaln_lora_dim": 4,
            "max_size": (4, 16, 16),
            "extra_pos_embed_type": None,
            "concat_padding_mask": False,  # to resize the mask needs torchvision
        }
        | changes
    )


def cosmos2_text2image() -> DiffusionPipeline:
    return diffusers.Cosmos2TextToImagePipeline(
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=cosmos_transformer(),
        vae=tiny_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Harmless(),
    )


def cosmos2_inputs(batch: int) -> dict[str, Any]:
    return larger_inputs(batch) | {
        "negative_prompt": ["dull"] * batch,
        "max_sequence_length": T5_LENGTH,
    }


def _entry(
    kind: type[DiffusionPipeline],
    build: Callable[[], DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    variant: str = "",
    denoisers: tuple[str, ...] = ("transformer",),
    **flags: Any,
) -> TinyPipeline:
    return TinyPipeline(kind.__name__ + variant, kind, build, inputs, denoisers, **flags)


PIPELINES: list[TinyPipeline] = [
    _entry(diffusers.AuraFlowPipeline, auraflow, image_inputs),
    *(
        _entry(kind, partial(pixart_sigma, kind), core.pixart_inputs)
        for kind in (diffusers.PixArtSigmaPipeline, diffusers.PixArtSigmaPAGPipeline)
    ),
    *(
        _entry(kind, partial(sana, kind), sana_inputs)
        for kind in (diffusers.SanaPipeline, diffusers.SanaPAGPipeline)
    ),
    _entry(
        diffusers.SanaControlNetPipeline,
        sana_controlnet,
        sana_controlnet_inputs,
        side_networks=("controlnet",),
    ),
    _entry(
        diffusers.SanaSprintPipeline,
        partial(sana_sprint, diffusers.SanaSprintPipeline),
        sana_sprint_inputs,
    ),
    _entry(
        diffusers.SanaSprintImg2ImgPipeline,
        partial(sana_sprint, diffusers.SanaSprintImg2ImgPipeline),
        sana_sprint_img2img_inputs,
    ),
    _entry(diffusers.LuminaPipeline, lumina, lumina_inputs),
    _entry(diffusers.Lumina2Pipeline, lumina2, lumina2_inputs),
    _entry(
        diffusers.Lumina2Pipeline,
        lumina2,
        lumina2_truncated_inputs,
        variant="/truncated",
        strict=False,
    ),
    *(
        _entry(kind, partial(hunyuan_dit, kind), hunyuan_dit_inputs)
        for kind in (diffusers.HunyuanDiTPipeline, diffusers.HunyuanDiTPAGPipeline)
    ),
    _entry(
        diffusers.HunyuanDiTControlNetPipeline,
        hunyuan_dit_controlnet,
        hunyuan_dit_controlnet_inputs,
        side_networks=("controlnet",),
    ),
    _entry(diffusers.HunyuanImagePipeline, hunyuan_image, hunyuan_image_inputs),
    _entry(
        diffusers.HunyuanImageRefinerPipeline, hunyuan_image_refiner, hunyuan_image_refiner_inputs
    ),
    _entry(diffusers.CogView3PlusPipeline, cogview3plus, cogview3plus_inputs),
    _entry(
        diffusers.CogView4Pipeline, partial(cogview4, diffusers.CogView4Pipeline), cogview4_inputs
    ),
    _entry(
        diffusers.CogView4ControlPipeline,
        partial(cogview4, diffusers.CogView4ControlPipeline, channels=8),
        cogview4_control_inputs,
    ),
    _entry(
        diffusers.Kandinsky5T2IPipeline,
        partial(kandinsky5, diffusers.Kandinsky5T2IPipeline),
        kandinsky5_inputs,
    ),
    _entry(
        diffusers.Kandinsky5I2IPipeline,
        partial(kandinsky5, diffusers.Kandinsky5I2IPipeline, in_visual_dim=4, visual_cond=True),
        kandinsky5_i2i_inputs,
    ),
    _entry(
        diffusers.HiDreamImagePipeline,
        hidream,
        hidream_inputs,
        whole="encoder_hidden_states_llama3",
    ),
    _entry(
        diffusers.PRXPipeline,
        lambda: prx(diffusers.PRXPipeline, 4, vae=tiny_vae()),
        prx_inputs,
    ),
    _entry(
        diffusers.PRXPipeline,
        lambda: prx(diffusers.PRXPipeline, 4, vae=tiny_vae()),
        prx_guided_inputs,
        variant="/guided",
        batches=False,
    ),
    _entry(
        diffusers.PRXPixelPipeline, partial(prx, diffusers.PRXPixelPipeline, 3), prx_pixel_inputs
    ),
    _entry(
        diffusers.Ideogram4Pipeline,
        ideogram4,
        ideogram4_inputs,
        denoisers=("transformer", "unconditional_transformer"),
    ),
    _entry(diffusers.Krea2Pipeline, krea2, krea2_inputs),
    _entry(diffusers.NucleusMoEImagePipeline, nucleus, krea2_inputs),
    _entry(diffusers.ErnieImagePipeline, ernie, ernie_inputs),
    _entry(
        diffusers.DreamLitePipeline,
        partial(dreamlite, diffusers.DreamLitePipeline),
        dreamlite_inputs,
        denoisers=("unet",),
        batches=False,
    ),
    _entry(
        diffusers.DreamLiteMobilePipeline,
        partial(dreamlite, diffusers.DreamLiteMobilePipeline),
        dreamlite_mobile_inputs,
        denoisers=("unet",),
        batches=False,
    ),
    _entry(diffusers.GlmImagePipeline, glm_image, glm_image_inputs),
    *(
        _entry(kind, partial(joyimage, kind, denoiser), joyimage_inputs)
        for kind, denoiser in (
            (diffusers.JoyImageEditPipeline, JoyImageEditTransformer3DModel),
            (diffusers.JoyImageEditPlusPipeline, JoyImageEditPlusTransformer3DModel),
        )
    ),
    _entry(diffusers.Cosmos2TextToImagePipeline, cosmos2_text2image, cosmos2_inputs),
    _entry(diffusers.OmniGenPipeline, omnigen, omnigen_inputs),
]

REFUSED = {
    "DiffusionGemmaPipeline": "discrete tokens",
    "LLaDA2Pipeline": "discrete tokens",
}
