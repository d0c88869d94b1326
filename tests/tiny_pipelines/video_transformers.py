"""Video transformers: Cosmos, EasyAnimate, Kandinsky 5, Sana-Video and others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import (
    AllegroTransformer3DModel,
    AnyFlowFARTransformer3DModel,
    AnyFlowTransformer3DModel,
    AutoencoderKLAllegro,
    AutoencoderKLCosmos,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLMagvit,
    AutoencoderKLMochi,
    ChronoEditTransformer3DModel,
    ClassifierFreeGuidance,
    Cosmos3OmniTransformer,
    DiffusionPipeline,
    EasyAnimateTransformer3DModel,
    EDMEulerScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeliosScheduler,
    HeliosTransformer3DModel,
    Kandinsky6SRTransformer3DModel,
    Kandinsky6SRVAE,
    Kandinsky6Transformer3DModel,
    LatteTransformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
    MochiTransformer3DModel,
    ModelMixin,
    MotifVideoTransformer3DModel,
    SanaVideoTransformer3DModel,
    SanaWMLTX2RefinerTransformer3DModel,
    SanaWMTransformer3DModel,
    UniPCMultistepScheduler,
)
from transformers import SiglipImageProcessorPil, T5Gemma2Encoder, T5Gemma2EncoderConfig

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.image_transformers import (
    Harmless,
    cosmos_transformer,
    kandinsky5,
    kandinsky5_i2i_inputs,
    kandinsky5_inputs,
    sana,
    sana_inputs,
)
from tiny_pipelines.inputs import even_prompts, films, photographs
from tiny_pipelines.parts import (
    SIZE,
    T5_LENGTH,
    WIDTH,
    chat_tokenizer,
    clip_image_encoder,
    clip_image_processor,
    ddim,
    gemma_encoder,
    qwen_encoder,
    qwen_tokenizer,
    t5_encoder,
    t5_tokenizer,
    tiny_vae,
    tiny_wan_transformer,
    tiny_wan_vae,
)
from tiny_pipelines.wan_and_kin import ltx2_parts, ltx2_vae


def video_inputs(batch: int, frames: int = 9, size: int = 2 * SIZE) -> dict[str, Any]:
    return {
        "prompt": even_prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "guidance_scale": 5.0,
        "height": size,
        "width": size,
        "num_frames": frames,
    }


def short_prompts(inputs: Callable[[int], dict[str, Any]]) -> Callable[[int], dict[str, Any]]:
    return lambda batch: inputs(batch) | {"max_sequence_length": T5_LENGTH}


def latte() -> DiffusionPipeline:
    return diffusers.LattePipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=tiny_vae(),
        transformer=LatteTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            cross_attention_dim=32,
            attention_bias=True,
            sample_size=8,
            patch_size=2,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            caption_channels=WIDTH,
            video_length=3,
        ),
        scheduler=ddim(),
    )


def latte_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": even_prompts(batch),
        "guidance_scale": 5.0,
        "height": SIZE // 2,
        "width": SIZE // 2,
        "video_length": 3,
        "clean_caption": False,
        "mask_feature": False,
    }


def mochi() -> DiffusionPipeline:
    return diffusers.MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLMochi(
            latent_channels=12,
            encoder_block_out_channels=(32,) * 4,
            decoder_block_out_channels=(32,) * 4,
            layers_per_block=(1,) * 5,
        ),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            pooled_projection_dim=16,
            in_channels=12,
            text_embed_dim=WIDTH,
            time_embed_dim=16,
            max_sequence_length=T5_LENGTH,
        ),
    )


def mochi_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch, frames=7)


def allegro() -> DiffusionPipeline:
    return diffusers.AllegroPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=AutoencoderKLAllegro(
            block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=AllegroTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=24,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            cross_attention_dim=48,
            sample_height=8,
            sample_width=8,
            sample_frames=2,
            caption_channels=WIDTH,
        ),
        scheduler=ddim(),
    )


def allegro_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch, frames=8) | {"clean_caption": False}


def easyanimate(kind: type[DiffusionPipeline], channels: int = 4) -> DiffusionPipeline:
    down, up = "SpatialTemporalDownBlock3D", "SpatialTemporalUpBlock3D"
    return kind(
        vae=AutoencoderKLMagvit(
            latent_channels=4,
            block_out_channels=[8] * 4,
            down_block_types=["SpatialDownBlock3D", down, down, down],
            up_block_types=["SpatialUpBlock3D", up, up, up],
            layers_per_block=1,
            norm_num_groups=2,
            spatial_group_norm=False,
        ),
        text_encoder=qwen_encoder(),
        tokenizer=chat_tokenizer(),
        transformer=EasyAnimateTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=channels,
            out_channels=4,
            patch_size=2,
            sample_width=8,
            sample_height=8,
            num_layers=2,
            mmdit_layers=2,
            time_embed_dim=16,
            text_embed_dim=WIDTH,
            add_noise_in_inpaint_model=False,
            resize_inpaint_mask_directly=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )


def easyanimate_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch, frames=5)


def clips(batch: int) -> torch.Tensor:
    """One clip of five frames per sample, with values in [0, 1]."""
    generators = [torch.Generator().manual_seed(b) for b in range(batch)]
    return torch.cat([torch.rand(1, 3, 5, 2 * SIZE, 2 * SIZE, generator=g) for g in generators])


def easyanimate_inpaint_inputs(batch: int) -> dict[str, Any]:
    mask = torch.zeros(batch, 1, 5, 2 * SIZE, 2 * SIZE)
    mask[..., SIZE:] = 255.0
    return easyanimate_inputs(batch) | {"video": clips(batch), "mask_video": mask}


def tiny_hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    """A video VAE: 8 times smaller in space, 4 times in time."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )


def kandinsky5_video(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kandinsky5(kind, tiny_hunyuan_vae(), visual_cond=True)


def kandinsky5_video_inputs(batch: int) -> dict[str, Any]:
    return kandinsky5_inputs(batch) | {"num_frames": 9}


def kandinsky5_i2v_inputs(batch: int) -> dict[str, Any]:
    """Six latent frames: the first four are brought to the statistics of the others."""
    return kandinsky5_i2i_inputs(batch) | {"num_frames": 21}


def cosmos1(kind: type[DiffusionPipeline], channels: int = 16) -> DiffusionPipeline:
    return kind(
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=cosmos_transformer(in_channels=channels),
        vae=AutoencoderKLCosmos(
            encoder_block_out_channels=(8,) * 4,
            decode_block_out_channels=(8,) * 4,
            attention_resolutions=(8,),
            resolution=64,
            num_layers=1,
            spatial_compression_ratio=4,
            temporal_compression_ratio=4,
        ),
        scheduler=EDMEulerScheduler(
            sigma_min=0.002,
            sigma_max=80.0,
            sigma_data=0.5,
            sigma_schedule="karras",
            final_sigmas_type="sigma_min",
        ),
        safety_checker=Harmless(),
    )


def cosmos2_video() -> DiffusionPipeline:
    return diffusers.Cosmos2VideoToWorldPipeline(
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=cosmos_transformer(in_channels=17),
        vae=tiny_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Harmless(),
    )


def cosmos1_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch, size=SIZE)


def cosmos1_image_inputs(batch: int) -> dict[str, Any]:
    return cosmos1_inputs(batch) | {"image": photographs(batch)}


def cosmos2_image_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch) | {"image": photographs(batch)}


def cosmos25() -> DiffusionPipeline:
    return diffusers.Cosmos2_5_PredictBasePipeline(
        text_encoder=qwen_encoder(),
        tokenizer=chat_tokenizer(),
        transformer=cosmos_transformer(in_channels=17, text_embed_dim=2 * WIDTH),
        vae=tiny_wan_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, use_karras_sigmas=True
        ),
        safety_checker=Harmless(),
    )


def lucy() -> DiffusionPipeline:
    return diffusers.LucyEditPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        vae=tiny_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=tiny_wan_transformer(in_channels=32),
    )


def lucy_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch) | {"video": films(batch, 9, 2 * SIZE)}


def sana_video(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return sana(
        kind,
        vae=tiny_wan_vae(),
        transformer=SanaVideoTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=WIDTH,
            sample_size=8,
            rope_max_seq_len=32,
        ),
    )


def sana_video_inputs(batch: int) -> dict[str, Any]:
    size = {"height": 2 * SIZE, "width": 2 * SIZE}
    return sana_inputs(batch) | {"frames": 9, "max_sequence_length": 2 * T5_LENGTH} | size


def sana_image_to_video_inputs(batch: int) -> dict[str, Any]:
    return sana_video_inputs(batch) | {"image": photographs(1)[0]}


def chronoedit() -> DiffusionPipeline:
    return diffusers.ChronoEditPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        image_encoder=clip_image_encoder(),
        image_processor=clip_image_processor(),
        transformer=tiny_wan_transformer(
            ChronoEditTransformer3DModel, in_channels=36, image_dim=WIDTH, added_kv_proj_dim=24
        ),
        vae=tiny_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def chronoedit_inputs(batch: int) -> dict[str, Any]:
    return video_inputs(batch, frames=5) | {"image": photographs(1)[0]}


def anyflow(
    kind: type[DiffusionPipeline], denoiser: type[ModelMixin], **shape: Any
) -> DiffusionPipeline:
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        transformer=denoiser(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
            **shape,
        ),
        vae=tiny_wan_vae(),
        scheduler=FlowMapEulerDiscreteScheduler(shift=5.0),
    )


def anyflow_far_inputs(batch: int) -> dict[str, Any]:
    """Chunk by chunk, each seeing the keys and values of those before it."""
    return video_inputs(batch) | {"chunk_partition": [1, 2]}


def helios(kind: type[DiffusionPipeline], scheduler: HeliosScheduler) -> DiffusionPipeline:
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        vae=tiny_wan_vae(),
        scheduler=scheduler,
        transformer=HeliosTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_dim=(4, 4, 4),
        ),
    )


def helios_inputs(batch: int) -> dict[str, Any]:
    """Two chunks of three latent frames."""
    return video_inputs(batch, frames=18) | {
        "num_latent_frames_per_chunk": 3,
        "history_sizes": [4, 2, 1],
    }


def helios_pyramid_inputs(batch: int) -> dict[str, Any]:
    """One chunk in three stages, each a loop at twice the resolution of the one before."""
    return helios_inputs(batch) | {
        "num_frames": 9,
        "pyramid_num_inference_steps_list": [6, 6, 6],
    }


def motif_encoder() -> T5Gemma2Encoder:
    """Text for ``t5_tokenizer``; its eye looks at the first frame of a video."""
    sight = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": 16,
    }
    text = {
        "vocab_size": 98,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "initializer_range": 0.2,
        "dropout_rate": 0.0,
    }
    return T5Gemma2Encoder(
        T5Gemma2EncoderConfig(text_config=text, vision_config=sight, mm_tokens_per_image=4),
        eoi_token_index=97,
    )


def motif(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=tiny_wan_vae(),
        text_encoder=motif_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=MotifVideoTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            num_single_layers=2,
            num_decoder_layers=1,
            text_embed_dim=WIDTH,
            image_embed_dim=WIDTH,
            rope_axes_dim=(4, 4, 4),
        ),
        guider=ClassifierFreeGuidance(guidance_scale=5.0),
        feature_extractor=SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}),
    )


def motif_inputs(batch: int) -> dict[str, Any]:
    """Its guider has the guidance scale."""
    inputs = video_inputs(batch)
    del inputs["guidance_scale"]
    return inputs


def motif_image_inputs(batch: int) -> dict[str, Any]:
    return motif_inputs(batch) | {"image": photographs(1)[0]}


def cosmos3() -> DiffusionPipeline:
    """One transformer for text and video: it takes a prompt's tokens as they are."""
    tokenizer = qwen_tokenizer()
    return diffusers.Cosmos3OmniPipeline(
        transformer=Cosmos3OmniTransformer(
            head_dim=16,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            latent_channel=16,
            patch_latent_dim=64,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=2,
            rope_axes_dim=(4, 2, 2),
            vocab_size=len(tokenizer),
        ),
        text_tokenizer=tokenizer,
        vae=tiny_wan_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        enable_safety_checker=False,
    )


def cosmos3_inputs(batch: int) -> dict[str, Any]:
    """Of several prompts it takes the first."""
    return video_inputs(1)


def kandinsky6_upscaler() -> DiffusionPipeline:
    """Its autoencoder halves height, width and time; a tile is one block of its attention."""
    widths = (8, 16)
    return diffusers.Kandinsky6SRPipeline(
        transformer=Kandinsky6SRTransformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            time_dim=16,
            model_dim=32,
            ff_dim=32,
            num_visual_blocks=1,
            axes_dims=(4, 6, 6),
            tile_sizes=((SIZE // 2, SIZE // 2),),
        ),
        vae=Kandinsky6SRVAE(
            latent_channels=4,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            layers_per_block=1,
            temporal_compression_ratio=2,
            temporal_compression_start_level=0,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def kandinsky6_upscaler_inputs(batch: int) -> dict[str, Any]:
    """A film two tiles wide, which are made one after the other."""
    film = clips(1)[:, :, :3].transpose(1, 2)
    return {"video": film[..., : SIZE // 4, : SIZE // 2 - 2], "resolution_scale": 2}


def kandinsky6_inputs(batch: int) -> dict[str, Any]:
    """With what its encoders make of prompts: its template for them is a thousand bytes long."""
    inputs = video_inputs(batch)
    del inputs["prompt"], inputs["negative_prompt"]
    for seed, sign in enumerate(("", "negative_")):
        generator = torch.Generator().manual_seed(seed)
        inputs[f"{sign}prompt_embeds"] = torch.randn(batch, 8, WIDTH, generator=generator)
        inputs[f"{sign}pooled_prompt_embeds"] = torch.randn(batch, WIDTH, generator=generator)
    return inputs


def kandinsky6() -> DiffusionPipeline:
    """Video with its sound."""
    return diffusers.Kandinsky6TI2VAPipeline(
        transformer=Kandinsky6Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=WIDTH,
            in_text_dim2=WIDTH,
            time_dim=16,
            model_dim=32,
            ff_dim=32,
            num_text_blocks=1,
            num_visual_blocks=2,
            axes_dims=(4, 6, 6),
            in_audio_dim=4,
            out_audio_dim=4,
            text_token_padding=True,
            ca_rope=True,
            cross_gates=True,
            fix_modulation=True,
        ),
        vae=tiny_hunyuan_vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        audio_vae=MMAudioVAE(
            mel_bins=8,
            latent_channels=4,
            hidden_channels=8,
            channel_multipliers=(1, 1),
            layers_per_block=1,
            sample_rate=1024,
            n_fft=64,
            hop_length=16,
        ),
        vocoder=MMAudioVocoder(
            num_mels=8,
            upsample_initial_channel=16,
            upsample_rates=(4, 4),
            upsample_kernel_sizes=(8, 8),
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
        ),
    )


def sana_wm() -> DiffusionPipeline:
    return diffusers.SanaWMPipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=gemma_encoder(),
        vae=ltx2_vae(),
        transformer=SanaWMTransformer3DModel(
            in_channels=4,
            num_layers=2,
            hidden_size=48,
            num_attention_heads=2,
            linear_head_dim=24,
            softmax_every_n=2,
            chunk_plucker_channels=12,
            image_size=SIZE,
            caption_channels=WIDTH,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def sana_wm_inputs(batch: int) -> dict[str, Any]:
    """A step forward through a picture; the prompt has no long introduction."""
    return {
        "image": photographs(1)[0],
        "prompt": even_prompts(1)[0],
        "action": "w-8",
        "intrinsics": [32.0, 32.0, 16.0, 16.0],
        "height": SIZE // 2,
        "width": SIZE // 2,
        "num_frames": 9,
        "max_sequence_length": T5_LENGTH,
        "chi_prompt": ["Enhance: "],
    }


def sana_wm_refiner() -> DiffusionPipeline:
    parts = ltx2_parts()
    names = ("connectors", "tokenizer", "text_encoder", "scheduler", "vae")
    return diffusers.SanaWMLTX2Refiner(
        transformer=SanaWMLTX2RefinerTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            num_layers=2,
            caption_channels=WIDTH,
            vae_scale_factors=(2, 2, 2),
            rope_type="split",
        ),
        text_max_sequence_length=T5_LENGTH,
        **{name: parts[name] for name in names},
    )


def sana_wm_refiner_inputs(batch: int) -> dict[str, Any]:
    """The latents of five frames: the first stays, the others are refined in two blocks."""
    return {
        "sana_latent": torch.randn(1, 4, 5, 8, 8, generator=torch.Generator().manual_seed(0)),
        "prompt": even_prompts(1)[0],
        "fps": 8.0,
        "block_size": 2,
        "sigmas": (0.9, 0.8, 0.65, 0.5, 0.3, 0.15, 0.0),
        "output_type": "latent",
    }


def _entry(
    kind: type[DiffusionPipeline],
    build: Callable[[], DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    **flags: Any,
) -> TinyPipeline:
    return TinyPipeline(kind.__name__, kind, build, inputs, ("transformer",), **flags)


PIPELINES: list[TinyPipeline] = [
    _entry(diffusers.LattePipeline, latte, latte_inputs),
    _entry(diffusers.MochiPipeline, mochi, short_prompts(mochi_inputs)),
    _entry(diffusers.AllegroPipeline, allegro, short_prompts(allegro_inputs)),
    _entry(
        diffusers.EasyAnimatePipeline,
        partial(easyanimate, diffusers.EasyAnimatePipeline),
        easyanimate_inputs,
    ),
    _entry(
        diffusers.EasyAnimateInpaintPipeline,
        partial(easyanimate, diffusers.EasyAnimateInpaintPipeline, channels=12),
        easyanimate_inpaint_inputs,
    ),
    _entry(
        diffusers.Kandinsky5T2VPipeline,
        partial(kandinsky5_video, diffusers.Kandinsky5T2VPipeline),
        kandinsky5_video_inputs,
    ),
    _entry(
        diffusers.Kandinsky5I2VPipeline,
        partial(kandinsky5_video, diffusers.Kandinsky5I2VPipeline),
        kandinsky5_i2v_inputs,
        batches=False,  # it normalises by the statistics of the whole batch
    ),
    _entry(
        diffusers.CosmosTextToWorldPipeline,
        partial(cosmos1, diffusers.CosmosTextToWorldPipeline),
        short_prompts(cosmos1_inputs),
        whole="other dimensions",  # it steps the guided and the unguided side by side
    ),
    _entry(
        diffusers.CosmosVideoToWorldPipeline,
        partial(cosmos1, diffusers.CosmosVideoToWorldPipeline, channels=17),
        short_prompts(cosmos1_image_inputs),
        whole="other dimensions",  # it steps the guided and the unguided side by side
    ),
    _entry(
        diffusers.Cosmos2VideoToWorldPipeline, cosmos2_video, short_prompts(cosmos2_image_inputs)
    ),
    _entry(diffusers.Cosmos2_5_PredictBasePipeline, cosmos25, short_prompts(video_inputs)),
    _entry(diffusers.LucyEditPipeline, lucy, short_prompts(lucy_inputs)),
    _entry(
        diffusers.SanaVideoPipeline,
        partial(sana_video, diffusers.SanaVideoPipeline),
        sana_video_inputs,
    ),
    _entry(
        diffusers.SanaImageToVideoPipeline,
        partial(sana_video, diffusers.SanaImageToVideoPipeline),
        sana_image_to_video_inputs,
    ),
    _entry(diffusers.ChronoEditPipeline, chronoedit, short_prompts(chronoedit_inputs)),
    _entry(
        diffusers.AnyFlowPipeline,
        partial(anyflow, diffusers.AnyFlowPipeline, AnyFlowTransformer3DModel),
        short_prompts(video_inputs),
    ),
    _entry(
        diffusers.AnyFlowFARPipeline,
        partial(
            anyflow,
            diffusers.AnyFlowFARPipeline,
            AnyFlowFARTransformer3DModel,
            chunk_partition=(1, 2),
        ),
        short_prompts(anyflow_far_inputs),
        whole="kv_cache",
        strict=False,  # between two chunks it is called to fill its cache
    ),
    _entry(
        diffusers.HeliosPipeline,
        partial(helios, diffusers.HeliosPipeline, HeliosScheduler(stages=1, stage_range=[0, 1])),
        short_prompts(helios_inputs),
    ),
    _entry(
        diffusers.HeliosPyramidPipeline,
        partial(helios, diffusers.HeliosPyramidPipeline, HeliosScheduler(gamma=0.25)),
        short_prompts(helios_pyramid_inputs),
        batches=False,  # it draws the noise of all later stages from the first generator
    ),
    _entry(
        diffusers.MotifVideoPipeline,
        partial(motif, diffusers.MotifVideoPipeline),
        short_prompts(motif_inputs),
    ),
    _entry(
        diffusers.MotifVideoImage2VideoPipeline,
        partial(motif, diffusers.MotifVideoImage2VideoPipeline),
        short_prompts(motif_image_inputs),
        batches=False,  # it takes one picture, which it does not repeat for several prompts
    ),
    _entry(
        diffusers.Cosmos3OmniPipeline,
        cosmos3,
        cosmos3_inputs,
        batches=False,
    ),
    _entry(diffusers.Kandinsky6TI2VAPipeline, kandinsky6, kandinsky6_inputs),
    _entry(
        diffusers.Kandinsky6SRPipeline,
        kandinsky6_upscaler,
        kandinsky6_upscaler_inputs,
        batches=False,  # it makes one film after the other
    ),
    _entry(
        diffusers.SanaWMPipeline,
        sana_wm,
        sana_wm_inputs,
        batches=False,  # it takes one picture and one prompt
    ),
    _entry(
        diffusers.SanaWMLTX2Refiner,
        sana_wm_refiner,
        sana_wm_refiner_inputs,
        batches=False,  # it takes one prompt
        strict=False,  # between two blocks it is called to fill its cache
        exact=False,  # likewise
    ),
]

NOT_BUILT = {
    "Cosmos2_5_TransferPipeline": "its ControlNet needs torchvision",
    "EasyAnimateControlPipeline": "its own call fails: encode_prompt takes no text_encoder_index",
}
