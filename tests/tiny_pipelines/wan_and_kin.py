"""Video: the Wan, LTX, Hunyuan, CogVideoX and SkyReels families."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    ClassifierFreeGuidance,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTX2VideoTransformer3DModel,
    LTXEulerAncestralRFScheduler,
    SkyReelsV2Transformer3DModel,
    WanAnimateTransformer3DModel,
    WanVACETransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from transformers import (
    ByT5Tokenizer,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.core import (
    cogvideox,
    cogvideox_inputs,
    ltx,
    ltx_inputs,
    wan,
    wan22,
    wan_inputs,
)
from tiny_pipelines.inputs import films, photographs, pictures, prompts
from tiny_pipelines.parts import (
    SIZE,
    T5_LENGTH,
    WIDTH,
    chat_tokenizer,
    clip_image_encoder,
    clip_image_processor,
    clip_text_encoder,
    clip_tokenizer,
    gemma_encoder,
    qwen_encoder,
    qwen_tokenizer,
    t5_encoder,
    tiny_wan_transformer,
)

_FRAMES = 5


def wan_eyes() -> dict[str, Any]:
    """What Wan looks at a picture with."""
    return {
        "image_encoder": clip_image_encoder(CLIPVisionModel),
        "image_processor": clip_image_processor(),
    }


def wan_image_transformer(**changes: Any) -> Any:
    """Beside the noisy latents it sees a picture's, and a mask."""
    return tiny_wan_transformer(in_channels=36, **changes)


def wan_image() -> DiffusionPipeline:
    transformer = wan_image_transformer(image_dim=WIDTH, added_kv_proj_dim=24)
    return wan(diffusers.WanImageToVideoPipeline, transformer=transformer, **wan_eyes())


def wan22_image() -> DiffusionPipeline:
    """Two denoisers: the second takes over below timestep 800, after three of six steps."""
    return wan(
        diffusers.WanImageToVideoPipeline,
        transformer=wan_image_transformer(),
        transformer_2=wan_image_transformer(),
        boundary_ratio=0.8,
    )


def wan_image_5b() -> DiffusionPipeline:
    """It has a timestep per token: the first frame is given."""
    return wan(diffusers.WanImageToVideoPipeline, expand_timesteps=True)


def wan_vace(**more: Any) -> DiffusionPipeline:
    transformer = partial(
        tiny_wan_transformer, WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=96
    )
    if more:
        more["transformer_2"] = transformer()
    return wan(diffusers.WanVACEPipeline, transformer=transformer(), **more)


def wan_animate() -> DiffusionPipeline:
    transformer = tiny_wan_transformer(
        WanAnimateTransformer3DModel,
        in_channels=36,
        latent_channels=16,
        image_dim=WIDTH,
        added_kv_proj_dim=24,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=SIZE // 2,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    return wan(diffusers.WanAnimatePipeline, transformer=transformer, **wan_eyes())


def skyreels(
    kind: type[DiffusionPipeline], more: dict[str, Any] | None = None, **changes: Any
) -> DiffusionPipeline:
    transformer = tiny_wan_transformer(SkyReelsV2Transformer3DModel, **changes)
    return wan(kind, transformer=transformer, **more or {})


def skyreels_image() -> DiffusionPipeline:
    return skyreels(
        diffusers.SkyReelsV2ImageToVideoPipeline,
        wan_eyes(),
        in_channels=36,
        image_dim=WIDTH,
        added_kv_proj_dim=24,
    )


def small_inputs(batch: int) -> dict[str, Any]:
    """Little to encode: Wan's VAE takes longer than the denoiser."""
    return wan_inputs(batch) | {"height": SIZE, "width": SIZE, "num_frames": _FRAMES}


def picture_inputs(batch: int) -> dict[str, Any]:
    """One picture for all samples: with a generator each, the pipelines take no more."""
    return small_inputs(batch) | {"image": pictures(1)}


def wan_film_inputs(batch: int) -> dict[str, Any]:
    inputs = small_inputs(batch) | {"video": films(batch, _FRAMES), "strength": 0.9}
    del inputs["num_frames"]
    return inputs


def vace_inputs(batch: int) -> dict[str, Any]:
    """The pipeline takes no list, neither of prompts nor of generators."""
    return small_inputs(batch) | {
        "prompt": prompts(1)[0],
        "negative_prompt": "dull",
        "generator": None,
        "video": photographs(_FRAMES),
    }


def wan_animate_inputs(batch: int) -> dict[str, Any]:
    """Two segments, the second of which goes on where the first one ends."""
    settings = {
        "image": pictures(1),
        "pose_video": photographs(9),
        "face_video": photographs(9, SIZE // 2),
        "segment_frame_length": 5,
    }
    inputs = small_inputs(batch) | settings
    del inputs["num_frames"]
    return inputs


def forcing_inputs(batch: int) -> dict[str, Any]:
    """All frames step together, each with a scheduler of its own."""
    return small_inputs(batch) | {"num_frames": 9, "base_num_frames": 9}


def long_forcing_inputs(batch: int) -> dict[str, Any]:
    """Two loops, the second of which begins with the end of the first one's video."""
    return forcing_inputs(batch) | {"num_frames": 13, "overlap_history": 5}


def block_forcing_inputs(batch: int) -> dict[str, Any]:
    """Every frame lags two steps behind the one before it."""
    return forcing_inputs(batch) | {"ar_step": 2}


def forcing_picture_inputs(batch: int) -> dict[str, Any]:
    return forcing_inputs(batch) | {"image": pictures(1)}


def forcing_film_inputs(batch: int) -> dict[str, Any]:
    return forcing_inputs(batch) | {
        "video": films(batch, _FRAMES),
        "overlap_history": 5,
        "num_frames": 13,
    }


def ltx_condition() -> DiffusionPipeline:
    """With an encoder that leaves nothing to chance: all samples have the first one's picture."""
    pipe = ltx(diffusers.LTXConditionPipeline, scheduler=FlowMatchEulerDiscreteScheduler())
    log_variance = pipe.vae.encoder.conv_out.conv
    with torch.no_grad():
        log_variance.weight[-1] = 0
        log_variance.bias[-1] = -30.0
    return pipe


def ltx_long() -> DiffusionPipeline:
    return ltx(diffusers.LTXI2VLongMultiPromptPipeline, scheduler=LTXEulerAncestralRFScheduler())


def cogvideox_small_inputs(batch: int) -> dict[str, Any]:
    return cogvideox_inputs(batch) | {"num_frames": _FRAMES}


def cogvideox_picture_inputs(batch: int) -> dict[str, Any]:
    return cogvideox_small_inputs(batch) | {"image": pictures(batch, size=2 * SIZE)}


def cogvideox_film_inputs(batch: int) -> dict[str, Any]:
    inputs = cogvideox_inputs(batch) | {"video": films(batch, _FRAMES, 2 * SIZE), "strength": 0.9}
    del inputs["num_frames"]
    return inputs


def cogvideox_control_inputs(batch: int) -> dict[str, Any]:
    inputs = cogvideox_inputs(batch) | {"control_video": films(batch, _FRAMES, 2 * SIZE)}
    del inputs["num_frames"]
    return inputs


def ltx_picture_inputs(batch: int) -> dict[str, Any]:
    return ltx_inputs(batch) | {"image": pictures(batch)}


def ltx_condition_inputs(batch: int) -> dict[str, Any]:
    """The first frame is given: timesteps differ from token to token."""
    return ltx_inputs(batch) | {"image": photographs(1)[0], "image_cond_noise_scale": 0.0}


def ltx_long_inputs(batch: int) -> dict[str, Any]:
    """Windows in time, each beginning with the end of the one before; a step less than asked."""
    return {
        "num_inference_steps": 7,
        "prompt": "red apple | green boat",
        "negative_prompt": "dull",
        "guidance_scale": 3.0,
        "height": SIZE,
        "width": SIZE,
        "num_frames": 25,
        "temporal_tile_size": 16,
        "temporal_overlap": 8,
        "max_sequence_length": T5_LENGTH,
        "generator": None,
        "seed": None,
        "skip_steps_sigma_threshold": None,
    }


HUNYUAN_SHAPE: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "text_embed_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "rope_axes_dim": (2, 4, 4),
}


def llama_encoder() -> LlamaModel:
    """A three-layer Llama for ``qwen_tokenizer``: the last two are not used."""
    return LlamaModel(
        LlamaConfig(
            vocab_size=257,
            bos_token_id=256,
            eos_token_id=256,
            pad_token_id=256,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_attention_heads=2,
            num_hidden_layers=3,
            initializer_range=0.2,
        )
    )


def hunyuan(
    kind: type[DiffusionPipeline],
    transformer: type[Any] = HunyuanVideoTransformer3DModel,
    more: dict[str, Any] | None = None,
    **changes: Any,
) -> DiffusionPipeline:
    """Any pipeline class made of HunyuanVideo's components; `changes` are the transformer's."""
    components = {
        "text_encoder": llama_encoder(),
        "tokenizer": qwen_tokenizer(),
        "text_encoder_2": clip_text_encoder(),
        "tokenizer_2": clip_tokenizer(),
        "transformer": transformer(**HUNYUAN_SHAPE | changes),
        "vae": AutoencoderKLHunyuanVideo(
            latent_channels=4,
            block_out_channels=(8,) * 4,
            layers_per_block=1,
            norm_num_groups=4,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }
    return kind(**components | (more or {}))


def siglip() -> dict[str, Any]:
    settings = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": 16,
    }
    return {
        "image_encoder": SiglipVisionModel(SiglipVisionConfig(**settings)),
        "feature_extractor": SiglipImageProcessor(size={"height": SIZE, "width": SIZE}),
    }


def hunyuan_image() -> DiffusionPipeline:
    """Its text encoder also sees the picture; here it is asked with embeddings."""
    return hunyuan(
        diffusers.HunyuanVideoImageToVideoPipeline,
        more={"image_processor": clip_image_processor()},
        in_channels=9,
        guidance_embeds=False,
        image_condition_type="latent_concat",
    )


def hunyuan_skyreels() -> DiffusionPipeline:
    return hunyuan(
        diffusers.HunyuanSkyreelsImageToVideoPipeline, in_channels=8, guidance_embeds=False
    )


def framepack() -> DiffusionPipeline:
    return hunyuan(
        diffusers.HunyuanVideoFramepackPipeline,
        HunyuanVideoFramepackTransformer3DModel,
        siglip(),
        patch_size=2,
        has_image_proj=True,
        image_proj_dim=WIDTH,
        has_clean_x_embedder=True,
    )


def hunyuan15(kind: type[DiffusionPipeline], task: str, **more: Any) -> DiffusionPipeline:
    pipe = kind(
        text_encoder=qwen_encoder().model.language_model,
        tokenizer=chat_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=ByT5Tokenizer(),
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=WIDTH,
            text_embed_2_dim=WIDTH,
            image_embed_dim=WIDTH,
            rope_axes_dim=(2, 2, 4),
            target_size=16,
            task_type=task,
        ),
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=4,
            block_out_channels=(16, 16),
            layers_per_block=1,
            spatial_compression_ratio=4,
            temporal_compression_ratio=2,
            downsample_match_channel=False,
            upsample_match_channel=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=ClassifierFreeGuidance(guidance_scale=4.0),
        **more,
    )
    pipe.system_message, pipe.prompt_template_encode_start_idx = "", 0
    pipe.tokenizer_max_length = pipe.tokenizer_2_max_length = T5_LENGTH
    return pipe


def hunyuan15_image() -> DiffusionPipeline:
    return hunyuan15(diffusers.HunyuanVideo15ImageToVideoPipeline, "i2v", **siglip())


def hunyuan_inputs(batch: int) -> dict[str, Any]:
    return small_inputs(batch) | {
        "guidance_scale": 6.0,
        "true_cfg_scale": 3.0,
        "prompt_template": {"template": "{}", "crop_start": 0},
    }


def hunyuan_picture_inputs(batch: int) -> dict[str, Any]:
    return hunyuan_inputs(batch) | {"image": pictures(batch)}


def hunyuan_embedded_inputs(batch: int) -> dict[str, Any]:
    def embeddings(*shape: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(3000 + b) for b in range(batch)]
        return torch.cat([torch.randn(1, *shape, generator=g) for g in generators])

    mask = torch.ones(batch, 8, dtype=torch.long)
    inputs = small_inputs(batch) | {
        "image": pictures(batch),
        "prompt_embeds": embeddings(8, WIDTH),
        "pooled_prompt_embeds": embeddings(WIDTH),
        "prompt_attention_mask": mask,
        "negative_prompt_embeds": torch.zeros(batch, 8, WIDTH),
        "negative_pooled_prompt_embeds": torch.zeros(batch, WIDTH),
        "negative_prompt_attention_mask": mask,
        "true_cfg_scale": 3.0,
    }
    del inputs["prompt"], inputs["negative_prompt"]
    return inputs


def framepack_inputs(batch: int) -> dict[str, Any]:
    """Two sections, of which the first made is the last of the video."""
    return hunyuan_inputs(batch) | {
        "image": pictures(batch),
        "latent_window_size": 2,
        "num_frames": 9,
    }


def hunyuan15_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "height": 16,
        "width": 16,
        "num_frames": _FRAMES,
    }


def hunyuan15_picture_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "image": photographs(1)[0],
        "num_frames": _FRAMES,
    }


def ltx2_vae() -> AutoencoderKLLTX2Video:
    """Halves height and width."""
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=1,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


def ltx2_parts(**changes: Any) -> dict[str, Any]:
    """LTX-2's components; `changes` are the transformer's."""
    shape = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "audio_in_channels": 4,
        "audio_out_channels": 4,
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 4,
        "audio_cross_attention_dim": 8,
        "num_layers": 2,
        "caption_channels": WIDTH,
        "vae_scale_factors": (2, 2, 2),
        "rope_type": "split",
    }
    connector = {
        f"{kind}_connector_{name}": value
        for kind in ("video", "audio")
        for name, value in {
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "num_layers": 1,
            "num_learnable_registers": None,
        }.items()
    }
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": ltx2_vae(),
        "audio_vae": AutoencoderKLLTX2Audio(
            base_channels=4,
            ch_mult=(1,),
            num_res_blocks=1,
            resolution=32,
            latent_channels=2,
            mel_bins=8,
        ),
        "text_encoder": gemma_encoder(),
        "tokenizer": qwen_tokenizer(),
        "connectors": LTX2TextConnectors(
            caption_channels=WIDTH,
            text_proj_in_factor=3,
            connector_rope_base_seq_len=32,
            rope_type="split",
            **connector,
        ),
        "transformer": LTX2VideoTransformer3DModel(**shape | changes),
        "vocoder": LTX2Vocoder(
            in_channels=16,
            hidden_channels=32,
            out_channels=2,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=16000,
        ),
    }


def ltx2(kind: type[DiffusionPipeline], **changes: Any) -> DiffusionPipeline:
    """Any pipeline class made of LTX-2's components."""
    return kind(**ltx2_parts(perturbed_attn=True, **changes))


def ltx2_dfr() -> DiffusionPipeline:
    parts = ltx2_parts(use_keyframes_abs_pos_embedding=True)
    return diffusers.LTX2DFRPipeline(**parts)


def ltx2_refine() -> DiffusionPipeline:
    parts = ltx2_parts(use_keyframes_abs_pos_embedding=True) | {
        "scheduler": LTXEulerAncestralRFScheduler(eta=0.5),
        "temporal_latent_upsampler": LTX2LatentUpsamplerModel(
            in_channels=4,
            mid_channels=32,
            num_blocks_per_stage=1,
            spatial_upsample=False,
            temporal_upsample=True,
        ),
    }
    return diffusers.LTX2DFRTemporalRefinePipeline(**parts)


_SIGMAS = [1.0, 0.9, 0.75, 0.6, 0.4, 0.2]


def ltx2_inputs(batch: int) -> dict[str, Any]:
    """Guided by the prompt alone, as LTX-2 was at first."""
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "height": SIZE,
        "width": SIZE,
        "num_frames": _FRAMES,
        "guidance_scale": 3.0,
        "stg_scale": 0.0,
        "modality_scale": 1.0,
        "audio_guidance_scale": 3.0,
        "audio_stg_scale": 0.0,
        "audio_modality_scale": 1.0,
        "spatio_temporal_guidance_blocks": None,
        "max_sequence_length": T5_LENGTH,
    }


def ltx2_much_guidance_inputs(batch: int) -> dict[str, Any]:
    """Three denoiser calls per step: guided, with blocks left out, and without the other stream."""
    return ltx2_inputs(batch) | {
        "stg_scale": 1.0,
        "modality_scale": 3.0,
        "audio_stg_scale": 1.0,
        "audio_modality_scale": 3.0,
        "spatio_temporal_guidance_blocks": [1],
    }


def ltx2_picture_inputs(batch: int) -> dict[str, Any]:
    return ltx2_inputs(batch) | {"image": pictures(batch), "image_crf": 0}


def ltx2_condition_inputs(batch: int) -> dict[str, Any]:
    frame = photographs(1)[0]
    return ltx2_inputs(batch) | {"conditions": LTX2VideoCondition(frame, index=0, crf=0)}


def ltx2_reference_inputs(batch: int) -> dict[str, Any]:
    reference = LTX2ReferenceCondition(photographs(1)[0])
    return ltx2_inputs(batch) | {"reference_conditions": reference}


def ltx2_hdr_inputs(batch: int) -> dict[str, Any]:
    inputs = ltx2_reference_inputs(batch)
    return {name: value for name, value in inputs.items() if not name.startswith("audio")}


def ltx2_dfr_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "height": SIZE,
        "width": SIZE,
        "num_frames": 9,
        "sigmas": _SIGMAS,
        "max_sequence_length": T5_LENGTH,
    }


def ltx2_refine_inputs(batch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(4000)
    return ltx2_dfr_inputs(batch) | {
        "prompt": prompts(1)[0],
        "latents": torch.randn(1, 4, 5, 16, 16, generator=generator),
        "keyframes_latents": torch.randn(1, 4, 1, 16, 16, generator=generator),
        "keyframe_positions": [8],
        "audio_latents": torch.randn(1, 2, 8, 2, generator=generator),
    }


_WAN22 = {"denoisers": ("transformer", "transformer_2"), "strict": False}


def _entry(
    name: str, build: Any, inputs: Any, denoisers: tuple[str, ...] = ("transformer",), **flags: Any
) -> TinyPipeline:
    kind = getattr(diffusers, name.split("/")[0])
    return TinyPipeline(name, kind, build, inputs, denoisers, **flags)


def _family(name: str, build: Any, inputs: Any, **flags: Any) -> TinyPipeline:
    """An entry whose builder takes the pipeline class."""
    return _entry(name, partial(build, getattr(diffusers, name.split("/")[0])), inputs, **flags)


PIPELINES = [
    _entry("WanPipeline", wan, wan_inputs),
    _entry("WanPipeline/two experts", wan22, wan_inputs, **_WAN22),
    _entry("WanImageToVideoPipeline", wan_image, picture_inputs),
    _entry("WanImageToVideoPipeline/two experts", wan22_image, picture_inputs, **_WAN22),
    _entry("WanImageToVideoPipeline/timestep per token", wan_image_5b, picture_inputs),
    _entry(
        "WanVideoToVideoPipeline", partial(wan, diffusers.WanVideoToVideoPipeline), wan_film_inputs
    ),
    _entry("WanVACEPipeline", wan_vace, vace_inputs, batches=False),
    _entry(
        "WanVACEPipeline/two experts",
        partial(wan_vace, boundary_ratio=0.8),
        vace_inputs,
        batches=False,
        **_WAN22,
    ),
    _entry("WanAnimatePipeline", wan_animate, wan_animate_inputs),
    _family("SkyReelsV2Pipeline", skyreels, small_inputs),
    _entry("SkyReelsV2ImageToVideoPipeline", skyreels_image, picture_inputs),
    _family("SkyReelsV2DiffusionForcingPipeline", skyreels, forcing_inputs),
    _family("SkyReelsV2DiffusionForcingPipeline/long", skyreels, long_forcing_inputs),
    _family(
        "SkyReelsV2DiffusionForcingPipeline/block by block",
        skyreels,
        block_forcing_inputs,
        strict=False,
        exact=False,  # one block follows the other: more steps than the scheduler has
    ),
    _family("SkyReelsV2DiffusionForcingImageToVideoPipeline", skyreels, forcing_picture_inputs),
    _family("SkyReelsV2DiffusionForcingVideoToVideoPipeline", skyreels, forcing_film_inputs),
    _family("CogVideoXPipeline", cogvideox, cogvideox_small_inputs),
    _entry(
        "CogVideoXImageToVideoPipeline",
        partial(cogvideox, diffusers.CogVideoXImageToVideoPipeline, in_channels=8),
        cogvideox_picture_inputs,
    ),
    _family("CogVideoXVideoToVideoPipeline", cogvideox, cogvideox_film_inputs),
    _entry(
        "CogVideoXFunControlPipeline",
        partial(cogvideox, diffusers.CogVideoXFunControlPipeline, in_channels=8),
        cogvideox_control_inputs,
    ),
    _family("LTXPipeline", ltx, ltx_inputs),
    _family("LTXImageToVideoPipeline", ltx, ltx_picture_inputs),
    _entry("LTXConditionPipeline", ltx_condition, ltx_condition_inputs),
    _entry(
        "LTXI2VLongMultiPromptPipeline",
        ltx_long,
        ltx_long_inputs,
        batches=False,
        exact=False,  # leaves out its scheduler's last step
    ),
    _family("LTX2Pipeline", ltx2, ltx2_inputs),
    _family("LTX2Pipeline/much guidance", ltx2, ltx2_much_guidance_inputs),
    _family("LTX2ImageToVideoPipeline", ltx2, ltx2_picture_inputs),
    _family("LTX2ConditionPipeline", ltx2, ltx2_condition_inputs),
    _family("LTX2InContextPipeline", ltx2, ltx2_reference_inputs),
    _family("LTX2HDRPipeline", ltx2, ltx2_hdr_inputs),
    _entry("LTX2DFRPipeline", ltx2_dfr, ltx2_dfr_inputs),
    _entry("LTX2DFRTemporalRefinePipeline", ltx2_refine, ltx2_refine_inputs, batches=False),
    _family("HunyuanVideoPipeline", hunyuan, hunyuan_inputs),
    _entry("HunyuanVideoImageToVideoPipeline", hunyuan_image, hunyuan_embedded_inputs),
    _entry("HunyuanSkyreelsImageToVideoPipeline", hunyuan_skyreels, hunyuan_picture_inputs),
    _entry("HunyuanVideoFramepackPipeline", framepack, framepack_inputs),
    _entry(
        "HunyuanVideo15Pipeline",
        partial(hunyuan15, diffusers.HunyuanVideo15Pipeline, "t2v"),
        hunyuan15_inputs,
    ),
    _entry("HunyuanVideo15ImageToVideoPipeline", hunyuan15_image, hunyuan15_picture_inputs),
]

REFUSED = {
    "LTXLatentUpsamplePipeline": "no scheduler",
    "LTX2LatentUpsamplePipeline": "no scheduler",
    "LTX2VideoDiffusionDecodePipeline": "within one call",
}
