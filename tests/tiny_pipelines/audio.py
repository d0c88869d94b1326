"""Audio pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import (
    AceStepTransformer1DModel,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AutoencoderOobleck,
    AutoencoderSAME,
    DiffusionPipeline,
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    IPNDMScheduler,
    LongCatAudioDiTTransformer,
    LongCatAudioDiTVae,
    StableAudio3DiTModel,
    StableAudioDiTModel,
    StableAudioProjectionModel,
    UNet1DModel,
)
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3Config,
    Qwen3Model,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.inputs import even_prompts, prompts
from tiny_pipelines.parts import (
    T5_LENGTH,
    UNET_SHAPE,
    WIDTH,
    ddim,
    qwen_tokenizer,
    t5_encoder,
    t5_tokenizer,
    tiny_unet,
    tiny_vae,
)


def roberta_tokenizer() -> RobertaTokenizer:
    """One token per byte."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "<mask>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return RobertaTokenizer(vocab=vocab, merges=[], model_max_length=T5_LENGTH)


def clap_text_config() -> ClapTextConfig:
    return ClapTextConfig(
        vocab_size=len(roberta_tokenizer()),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2 * T5_LENGTH,
    )


def clap() -> ClapModel:
    """Its ears are used only where several sounds per prompt are put in order."""
    ears = ClapAudioConfig(
        spec_size=64,
        window_size=4,
        num_mel_bins=64,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        patch_size=2,
        patch_stride=2,
        patch_embeds_hidden_size=16,
    )
    return ClapModel(
        ClapConfig(
            text_config=clap_text_config().to_dict(),
            audio_config=ears.to_dict(),
            projection_dim=WIDTH,
        )
    )


def vocoder() -> SpeechT5HifiGan:
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )


def audioldm(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Text goes in as one vector, beside the timestep."""
    return kind(
        vae=tiny_vae(colours=1),
        tokenizer=roberta_tokenizer(),
        unet=tiny_unet(
            cross_attention_dim=UNET_SHAPE["block_out_channels"],
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=WIDTH,
            class_embeddings_concat=True,
        ),
        scheduler=ddim(),
        vocoder=vocoder(),
        **more,
    )


def audioldm1() -> DiffusionPipeline:
    text_encoder = ClapTextModelWithProjection(clap_text_config())
    return audioldm(diffusers.AudioLDMPipeline, text_encoder=text_encoder)


def musicldm() -> DiffusionPipeline:
    return audioldm(
        diffusers.MusicLDMPipeline, text_encoder=clap(), feature_extractor=ClapFeatureExtractor()
    )


def audioldm2() -> DiffusionPipeline:
    """The text features of two encoders, and what a language model makes of them."""
    gpt2 = GPT2Config(vocab_size=8, n_embd=WIDTH, n_head=2, n_layer=2, n_positions=99)
    gpt2.max_new_tokens = 4
    return diffusers.AudioLDM2Pipeline(
        vae=tiny_vae(colours=1),
        text_encoder=clap(),
        text_encoder_2=t5_encoder(),
        projection_model=AudioLDM2ProjectionModel(
            text_encoder_dim=WIDTH, text_encoder_1_dim=WIDTH, langauge_model_dim=WIDTH
        ),
        language_model=GPT2LMHeadModel(gpt2),
        tokenizer=roberta_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        feature_extractor=ClapFeatureExtractor(),
        unet=AudioLDM2UNet2DConditionModel(
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=([None, WIDTH, WIDTH], [None, WIDTH, WIDTH]),
        ),
        scheduler=ddim(),
        vocoder=vocoder(),
    )


def audioldm_inputs(batch: int) -> dict[str, Any]:
    """A length that makes latents of 16 x 4."""
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "guidance_scale": 5.0,
        "audio_length_in_s": 0.008,
    }


def musicldm_inputs(batch: int) -> dict[str, Any]:
    """Encoded prompts: its own way of encoding them fails with transformers 5."""
    generators = [torch.Generator().manual_seed(b) for b in range(batch)]
    return {
        "prompt_embeds": torch.cat([torch.randn(1, WIDTH, generator=g) for g in generators]),
        "negative_prompt_embeds": torch.zeros(batch, WIDTH),
        "guidance_scale": 5.0,
        "audio_length_in_s": 0.008,
    }


def audioldm2_inputs(batch: int) -> dict[str, Any]:
    return audioldm_inputs(batch) | {"prompt": even_prompts(batch)}


def oobleck() -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=8,
        channel_multiples=[2, 4],
        sampling_rate=50,
    )


def stable_audio() -> DiffusionPipeline:
    return diffusers.StableAudioPipeline(
        vae=oobleck(),
        text_encoder=t5_encoder(),
        projection_model=StableAudioProjectionModel(WIDTH, WIDTH, min_value=0, max_value=32),
        tokenizer=t5_tokenizer(),
        transformer=StableAudioDiTModel(
            sample_size=16,
            in_channels=8,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_attention_heads=2,
            out_channels=8,
            cross_attention_dim=32,
            time_proj_dim=32,
            global_states_input_dim=2 * WIDTH,
            cross_attention_input_dim=WIDTH,
        ),
        scheduler=EDMDPMSolverMultistepScheduler(
            sigma_min=0.3,
            sigma_max=500.0,
            sigma_data=1.0,
            sigma_schedule="exponential",
            prediction_type="v_prediction",
            final_sigmas_type="zero",
        ),
    )


def stable_audio_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(batch), "negative_prompt": ["dull"] * batch}


def stable_audio3(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    return kind(
        vae=AutoencoderSAME(
            patch_size=4,
            encoder_channels=8,
            encoder_c_mults=(2,),
            encoder_strides=(2,),
            encoder_transformer_depths=(1,),
            latent_dim=8,
            dim_heads=8,
            sampling_rate=16,
        ),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        duration_embedder=StableAudio3DurationEmbedder(output_dim=WIDTH, fourier_dim=16),
        transformer=StableAudio3DiTModel(
            io_channels=8,
            embed_dim=32,
            depth=2,
            num_heads=2,
            cond_token_dim=WIDTH,
            global_cond_dim=WIDTH,
            local_add_cond_dim=9,
            timestep_features_dim=32,
            num_memory_tokens=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def stable_audio3_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "guidance_scale": 5.0,
        "duration": 8.0,
    }


def sounds(batch: int) -> torch.Tensor:
    """Eight seconds in stereo for every sample, at 16 hertz."""
    generators = [torch.Generator().manual_seed(b) for b in range(batch)]
    return 0.3 * torch.cat([torch.randn(1, 2, 128, generator=g) for g in generators])


def stable_audio3_audio_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "audio": sounds(batch),
        "duration": 8.0,
        "init_noise_level": 0.8,
    }


def stable_audio3_inpaint_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "audio": sounds(batch),
        "duration": 8.0,
        "mask_start_seconds": 2.0,
        "mask_end_seconds": 6.0,
    }


def ace_step() -> DiffusionPipeline:
    shape = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 16,
    }
    tokenizer = qwen_tokenizer()
    qwen3 = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        initializer_range=0.2,
    )
    return diffusers.AceStepPipeline(
        vae=oobleck(),
        text_encoder=Qwen3Model(qwen3),
        tokenizer=tokenizer,
        transformer=AceStepTransformer1DModel(
            **shape, num_hidden_layers=2, in_channels=24, audio_acoustic_hidden_dim=8
        ),
        condition_encoder=AceStepConditionEncoder(
            **shape,
            text_hidden_dim=WIDTH,
            timbre_hidden_dim=8,
            num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


def ace_step_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": even_prompts(batch),
        "lyrics": [f"la {prompt}" for prompt in even_prompts(batch)],
        "audio_duration": 0.6,
        "max_text_length": 160,
        "max_lyric_length": 64,
    }


def longcat_audio() -> DiffusionPipeline:
    return diffusers.LongCatAudioDiTPipeline(
        vae=LongCatAudioDiTVae(
            channels=8,
            c_mults=[1, 2],
            strides=[2, 2],
            latent_dim=8,
            encoder_latent_dim=16,
            downsampling_ratio=4,
            sample_rate=64,
        ),
        text_encoder=t5_encoder(multilingual=True),
        tokenizer=t5_tokenizer(),
        transformer=LongCatAudioDiTTransformer(
            dit_dim=32, dit_depth=2, dit_heads=2, dit_text_dim=WIDTH, latent_dim=8
        ),
    )


def longcat_audio_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": even_prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "audio_duration_s": 1.0,
    }


def dance_diffusion() -> DiffusionPipeline:
    return diffusers.DanceDiffusionPipeline(
        unet=UNet1DModel(
            block_out_channels=(32, 32, 64),
            extra_in_channels=64,
            sample_size=512,
            sample_rate=16_000,
            flip_sin_to_cos=True,
        ),
        scheduler=IPNDMScheduler(),
    )


def dance_diffusion_inputs(batch: int) -> dict[str, Any]:
    return {"batch_size": batch, "audio_length_in_s": 0.016}


def _entry(
    kind: type[DiffusionPipeline],
    build: Callable[[], DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    denoisers: tuple[str, ...] = ("transformer",),
    **flags: Any,
) -> TinyPipeline:
    return TinyPipeline(kind.__name__, kind, build, inputs, denoisers, **flags)


PIPELINES: list[TinyPipeline] = [
    _entry(diffusers.AudioLDMPipeline, audioldm1, audioldm_inputs, ("unet",)),
    _entry(diffusers.MusicLDMPipeline, musicldm, musicldm_inputs, ("unet",)),
    _entry(diffusers.AudioLDM2Pipeline, audioldm2, audioldm2_inputs, ("unet",)),
    _entry(diffusers.StableAudioPipeline, stable_audio, stable_audio_inputs),
    *(
        _entry(kind, partial(stable_audio3, kind), inputs)
        for kind, inputs in (
            (diffusers.StableAudio3Pipeline, stable_audio3_inputs),
            (diffusers.StableAudio3AudioToAudioPipeline, stable_audio3_audio_inputs),
            (diffusers.StableAudio3InpaintPipeline, stable_audio3_inpaint_inputs),
        )
    ),
    _entry(diffusers.AceStepPipeline, ace_step, ace_step_inputs),
    _entry(diffusers.LongCatAudioDiTPipeline, longcat_audio, longcat_audio_inputs),
    _entry(diffusers.DanceDiffusionPipeline, dance_diffusion, dance_diffusion_inputs, ("unet",)),
]
