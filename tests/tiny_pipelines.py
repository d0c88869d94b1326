"""Tiny, randomly initialised diffusers pipelines for tests.

The real pipeline classes run with components of some hundred thousand weights, so that a test sees
the true call patterns (guidance batches, separate passes, ControlNets, videos) in a fraction of a
second and without a download. The weights are seeded: a failure can be repeated. The outputs mean
nothing, but they depend on prompt, seed and timestep like those of a trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    I2VGenXLUNet,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
    VQModel,
    WanTransformer3DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

WIDTH = 32
"""Width of every text encoder unless a pipeline asks for another: what the denoisers attend to."""

SIZE = 32
"""Height and width of the pictures; the image VAE halves it, so latents are 16 x 16."""

CLIP_LENGTH = 77
T5_LENGTH = 24


@dataclass(frozen=True)
class TinyPipeline:
    """A pipeline that a test can make and call.

    Attributes:
        name: Its key in ``TINY_PIPELINES``.
        make: Builds a fresh pipeline; two calls give equal weights.
        inputs: Call arguments for a batch of the given size, without generator, number of steps and
            output type. Sample ``b`` gets the same arguments in every batch size.
        denoisers: Names of the components that predict noise, velocity or sample.
    """

    name: str
    make: Callable[[], DiffusionPipeline]
    inputs: Callable[[int], dict[str, Any]]
    denoisers: tuple[str, ...]


# Running ------------------------------------------------------------------------------------------

_NO_LATENT_OUTPUT = (diffusers.DDIMPipeline, diffusers.DiTPipeline, diffusers.IFPipeline)
_PER_SAMPLE = ("prompt", "class_labels", "image_embeds")


def batch_size(inputs: dict[str, Any]) -> int:
    """How many samples a call with these arguments makes."""
    if "batch_size" in inputs:
        return inputs["batch_size"]
    per_sample = next(inputs[name] for name in _PER_SAMPLE if name in inputs)
    return 1 if isinstance(per_sample, str) else len(per_sample)


def single(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    """The arguments of one sample of a batch, as a batch of one.

    ``run(pipe, single(inputs, b), seed=seed + b)`` makes what row ``b`` of
    ``run(pipe, inputs, seed=seed)`` is.
    """
    batched = {k: v for k, v in inputs.items() if isinstance(v, list | torch.Tensor)}
    alone = {k: v[index : index + 1] for k, v in batched.items()}
    if "batch_size" in inputs:
        alone["batch_size"] = 1
    return inputs | alone


def run(
    pipe: DiffusionPipeline,
    inputs: dict[str, Any],
    steps: int = 6,
    seed: int = 0,
    **overrides: Any,
) -> torch.Tensor:
    """Call ``pipe`` and return latents (pixels where it has no latent output), batch in dim 0.

    Each sample has a generator of its own, seeded ``seed``, ``seed + 1``, ..., so that a sample
    does not depend on the batch it is in. ``overrides`` replace call arguments, these included.
    """
    inputs = inputs | overrides
    defaults = {
        "generator": [
            torch.Generator("cpu").manual_seed(seed + b) for b in range(batch_size(inputs))
        ],
        "num_inference_steps": steps,
        "output_type": "pt" if isinstance(pipe, _NO_LATENT_OUTPUT) else "latent",
    }
    pipe.set_progress_bar_config(disable=True)
    output = pipe(**defaults | inputs, return_dict=False)[0]
    return torch.as_tensor(output).float()


# Building blocks ----------------------------------------------------------------------------------


def seeded(build: Callable[[], DiffusionPipeline]) -> Callable[[], DiffusionPipeline]:
    """Make a builder repeatable, and its models ready for inference.

    Layers that start at zero (last projections, adaptive norms, ControlNet's zero convolutions) get
    small random weights: a denoiser that answers zero would make every test of skipping it pass.
    """

    def make() -> DiffusionPipeline:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            pipe = build()
            for component in pipe.components.values():
                if isinstance(component, nn.Module):
                    component.eval().requires_grad_(False)
                    for weight in component.parameters():
                        if weight.ndim > 1 and not weight.any():
                            weight.normal_(std=weight[0].numel() ** -0.5)
        return pipe

    return make


def clip_tokenizer() -> CLIPTokenizer:
    """One token per byte, so that any two prompts differ and no vocabulary need be fetched."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_LENGTH)


def t5_tokenizer() -> T5TokenizerFast:
    """One token per printable ASCII character; a space is ``▁``, as in the real vocabulary."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = [(c, -2.0) for c in ("▁", *map(chr, range(33, 127)))]
    return T5TokenizerFast(vocab=special + characters, extra_ids=0, model_max_length=T5_LENGTH)


def clip_text_encoder(
    kind: type[CLIPTextModel] | type[CLIPTextModelWithProjection] = CLIPTextModel,
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A two-layer CLIP text encoder for ``clip_tokenizer``."""
    vocab_size = 2 * len(ByteLevel.alphabet()) + 2
    return kind(
        CLIPTextConfig(
            vocab_size=vocab_size,
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
            max_position_embeddings=CLIP_LENGTH,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_factor=2.0,
        )
    )


def t5_encoder(width: int = WIDTH, multilingual: bool = False) -> T5EncoderModel | UMT5EncoderModel:
    """A two-layer T5 (or UMT5) encoder for ``t5_tokenizer``."""
    settings = {
        "vocab_size": 98,
        "d_model": width,
        "d_kv": 8,
        "d_ff": width,
        "num_heads": 2,
        "num_layers": 2,
    }
    if multilingual:
        return UMT5EncoderModel(UMT5Config(**settings))
    return T5EncoderModel(T5Config(**settings))


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token per byte, as in ``clip_tokenizer``."""
    tokens = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    return Qwen2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def qwen_encoder() -> Qwen2_5_VLForConditionalGeneration:
    """A two-layer Qwen2.5-VL for ``qwen_tokenizer``; its eyes are never used."""
    end = len(ByteLevel.alphabet())
    language = {
        "vocab_size": end + 1,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        "initializer_range": 0.2,
    }
    sight = {"depth": 1, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "num_heads": 2}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=language, vision_config=sight)
    )


def tiny_vae(channels: int = 4, widths: tuple[int, ...] = (8, 16)) -> AutoencoderKL:
    """An image VAE that halves height and width, once less than it has levels."""
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        norm_num_groups=4,
        shift_factor=0.0,
    )


UNET_SHAPE: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
}


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """A two-level text-conditioned UNet, with attention on its upper level."""
    shape = UNET_SHAPE | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")} | changes
    return UNet2DConditionModel(sample_size=SIZE // 2, **shape)


def tiny_wan_transformer() -> WanTransformer3DModel:
    """A two-layer Wan video transformer."""
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )


def tiny_wan_vae() -> AutoencoderKLWan:
    """A Wan VAE: 8 times smaller in space, 4 times in time."""
    return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""Stable Diffusion's noise schedule, for all: ε of a random network makes samples grow by
1 / sqrt(ᾱ) of the first timestep, which is 15 here and 160 with the linear schedule."""


def ddim() -> DDIMScheduler:
    """DDIM as Stable Diffusion 1.5 has it."""
    return DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


# Inputs -------------------------------------------------------------------------------------------

_COLOURS = ("red", "green", "blue", "white", "black")
_THINGS = ("apple", "boat", "castle", "dog", "engine", "forest", "guitar")


def prompts(batch: int) -> list[str]:
    """Prompts that all differ, for up to 35 samples."""
    return [f"{_COLOURS[b % 5]} {_THINGS[b % 7]}" for b in range(batch)]


def pictures(batch: int, channels: int = 3) -> torch.Tensor:
    """One picture per sample with values in [0, 1]: enlarged noise, smooth as pictures are."""
    blocks = [
        torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(1000 + b))
        for b in range(batch)
    ]
    return nn.functional.interpolate(torch.cat(blocks), size=(SIZE, SIZE), mode="bilinear")


def masks(batch: int) -> torch.Tensor:
    """One mask per sample, 1 where the picture is to be repainted: the right half and then some."""
    columns = torch.arange(SIZE).expand(batch, 1, SIZE, SIZE)
    starts = SIZE // 2 - 2 * (torch.arange(batch) % 4)
    return (columns >= starts.view(-1, 1, 1, 1)).float()


def image_inputs(batch: int, guidance_scale: float = 5.0) -> dict[str, Any]:
    """Arguments of a text-to-image call."""
    return {
        "prompt": prompts(batch),
        "guidance_scale": guidance_scale,
        "height": SIZE,
        "width": SIZE,
    }


# Pipelines ----------------------------------------------------------------------------------------


def stable_diffusion(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of Stable Diffusion 1.5's components."""
    components = {
        "vae": tiny_vae(),
        "text_encoder": clip_text_encoder(),
        "tokenizer": clip_tokenizer(),
        "unet": tiny_unet(),
        "scheduler": ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return kind(**components | more)


def sdxl() -> DiffusionPipeline:
    time_width = 8
    return diffusers.StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        text_encoder_2=clip_text_encoder(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=tiny_unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=6 * time_width + WIDTH,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
    )


def sd3() -> DiffusionPipeline:
    return diffusers.StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIZE // 2,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=SIZE // 2,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text_encoder(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(2 * WIDTH),
        tokenizer_3=t5_tokenizer(),
    )


def sd3_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"max_sequence_length": T5_LENGTH}


def flux() -> DiffusionPipeline:
    return diffusers.FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def flux_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch, 3.5) | {"max_sequence_length": T5_LENGTH}


def flux_cfg_inputs(batch: int) -> dict[str, Any]:
    return flux_inputs(batch) | {"negative_prompt": ["dull"] * batch, "true_cfg_scale": 3.0}


def wan(**more: Any) -> DiffusionPipeline:
    return diffusers.WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(multilingual=True),
        vae=tiny_wan_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=tiny_wan_transformer(),
        **more,
    )


def wan22() -> DiffusionPipeline:
    """Two denoisers: the second takes over below timestep 800, after three of six steps."""
    return wan(transformer_2=tiny_wan_transformer(), boundary_ratio=0.8)


def wan_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "guidance_scale": 5.0,
        "height": 64,
        "width": 64,
        "num_frames": 9,
        "max_sequence_length": T5_LENGTH,
    }


def ltx() -> DiffusionPipeline:
    return diffusers.LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            patch_size=1,
        ),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=WIDTH,
        ),
    )


def ltx_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"num_frames": 9, "max_sequence_length": T5_LENGTH}


def sd15() -> DiffusionPipeline:
    return stable_diffusion(diffusers.StableDiffusionPipeline)


def controlnet() -> DiffusionPipeline:
    return stable_diffusion(
        diffusers.StableDiffusionControlNetPipeline,
        controlnet=ControlNetModel(conditioning_embedding_out_channels=(8, 16), **UNET_SHAPE),
        scheduler=UniPCMultistepScheduler(**BETAS, steps_offset=1),
    )


def controlnet_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"image": pictures(batch)}


def inpaint() -> DiffusionPipeline:
    """With a plain UNet, so that the pipeline puts the known latents back at every step."""
    return stable_diffusion(diffusers.StableDiffusionInpaintPipeline)


def inpaint_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"image": pictures(batch), "mask_image": masks(batch)}


def img2img() -> DiffusionPipeline:
    return stable_diffusion(diffusers.StableDiffusionImg2ImgPipeline)


def img2img_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "guidance_scale": 5.0,
        "image": pictures(batch),
        "strength": 0.6,
    }


def animatediff() -> DiffusionPipeline:
    return diffusers.AnimateDiffPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(),
        motion_adapter=MotionAdapter(
            block_out_channels=UNET_SHAPE["block_out_channels"],
            motion_layers_per_block=1,
            motion_norm_num_groups=UNET_SHAPE["norm_num_groups"],
            motion_num_attention_heads=2,
        ),
        scheduler=ddim(),
    )


def text_to_video() -> DiffusionPipeline:
    levels = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        "attention_head_dim": 8,
    }
    return diffusers.TextToVideoSDPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=UNet3DConditionModel(sample_size=SIZE // 2, **UNET_SHAPE | levels),
        scheduler=ddim(),
    )


def frames_inputs(batch: int) -> dict[str, Any]:
    """Arguments for three small frames: video UNets are the slowest of the tiny denoisers."""
    return image_inputs(batch) | {"num_frames": 3, "height": SIZE // 2, "width": SIZE // 2}


def dit() -> DiffusionPipeline:
    return diffusers.DiTPipeline(
        transformer=DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=SIZE // 2,
        ),
        vae=tiny_vae(),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False),
    )


def dit_inputs(batch: int) -> dict[str, Any]:
    return {"class_labels": [(7 + 100 * b) % 1000 for b in range(batch)], "guidance_scale": 4.0}


def pixart() -> DiffusionPipeline:
    return diffusers.PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=tiny_vae(),
        transformer=PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=32,
            sample_size=SIZE // 2,
            caption_channels=WIDTH,
        ),
        scheduler=DPMSolverMultistepScheduler(**BETAS),
    )


def pixart_inputs(batch: int) -> dict[str, Any]:
    settings = {
        "clean_caption": False,
        "use_resolution_binning": False,
        "max_sequence_length": T5_LENGTH,
    }
    return image_inputs(batch, 4.5) | settings


def ddim_unconditional() -> DiffusionPipeline:
    """Predicts v: with ε, a random network's samples end far outside the [0, 1] of the output."""
    return diffusers.DDIMPipeline(
        unet=UNet2DModel(
            sample_size=SIZE // 2,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
    )


def ddim_inputs(batch: int) -> dict[str, Any]:
    return {"batch_size": batch}


def deepfloyd() -> DiffusionPipeline:
    """A stochastic sampler on pixels that uses the variance channels."""
    return diffusers.IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=tiny_unet(in_channels=3, out_channels=6),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def deepfloyd_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"clean_caption": False, "height": SIZE // 2, "width": SIZE // 2}


def ldm() -> DiffusionPipeline:
    """The pipeline takes for granted that latents are 8 times smaller."""
    return diffusers.LDMTextToImagePipeline(
        vqvae=tiny_vae(widths=(8,) * 4),
        bert=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(),
        scheduler=ddim(),
    )


def ldm_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"height": 2 * SIZE, "width": 2 * SIZE}


def i2vgen_xl() -> DiffusionPipeline:
    """Not among the others: it also draws from torch's own generator, so no call is repeatable."""
    levels = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    sight = CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
    )
    return diffusers.I2VGenXLPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        image_encoder=CLIPVisionModelWithProjection(sight),
        feature_extractor=CLIPImageProcessor(crop_size=SIZE, size=SIZE),
        unet=I2VGenXLUNet(sample_size=SIZE // 2, **UNET_SHAPE | levels),
        scheduler=ddim(),
    )


def qwen_image() -> DiffusionPipeline:
    return diffusers.QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=qwen_encoder(),
        tokenizer=qwen_tokenizer(),
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def qwen_image_inputs(batch: int) -> dict[str, Any]:
    """Much guidance: the random network hardly heeds its prompt."""
    return {
        "prompt": prompts(batch),
        "negative_prompt": ["dull"] * batch,
        "true_cfg_scale": 20.0,
        "height": SIZE,
        "width": SIZE,
    }


def cogvideox() -> DiffusionPipeline:
    return diffusers.CogVideoXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=AutoencoderKLCogVideoX(
            latent_channels=4,
            block_out_channels=(8,) * 4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=32,
            text_embed_dim=WIDTH,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=9,
            max_text_seq_length=T5_LENGTH,
        ),
        scheduler=CogVideoXDDIMScheduler(
            snr_shift_scale=3.0,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=False,
        ),
    )


def cogvideox_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {
        "num_frames": 9,
        "height": 2 * SIZE,
        "width": 2 * SIZE,
        "max_sequence_length": T5_LENGTH,
    }


def kandinsky() -> DiffusionPipeline:
    return diffusers.KandinskyV22Pipeline(
        unet=tiny_unet(
            out_channels=8,
            addition_embed_type="image",
            encoder_hid_dim=WIDTH,
            encoder_hid_dim_type="image_proj",
        ),
        scheduler=DDPMScheduler(**BETAS, clip_sample=False),
        movq=VQModel(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            num_vq_embeddings=8,
            vq_embed_dim=4,
        ),
    )


def kandinsky_inputs(batch: int) -> dict[str, Any]:
    """The decoder takes what the prior makes of a prompt: an image embedding."""
    generators = [torch.Generator().manual_seed(2000 + b) for b in range(batch)]
    return {
        "image_embeds": torch.cat([torch.randn(1, WIDTH, generator=g) for g in generators]),
        "negative_image_embeds": torch.zeros(batch, WIDTH),
        "guidance_scale": 4.0,
        "height": SIZE,
        "width": SIZE,
    }


TINY_PIPELINES: dict[str, TinyPipeline] = {
    name: TinyPipeline(name, seeded(build), inputs, denoisers)
    for name, build, inputs, denoisers in (
        ("sd15", sd15, image_inputs, ("unet",)),
        ("sdxl", sdxl, image_inputs, ("unet",)),
        ("sd3", sd3, sd3_inputs, ("transformer",)),
        ("flux", flux, flux_inputs, ("transformer",)),
        ("flux_cfg", flux, flux_cfg_inputs, ("transformer",)),
        ("wan", wan, wan_inputs, ("transformer",)),
        ("wan22", wan22, wan_inputs, ("transformer", "transformer_2")),
        ("ltx", ltx, ltx_inputs, ("transformer",)),
        ("controlnet", controlnet, controlnet_inputs, ("unet",)),
        ("inpaint", inpaint, inpaint_inputs, ("unet",)),
        ("img2img", img2img, img2img_inputs, ("unet",)),
        ("dit", dit, dit_inputs, ("transformer",)),
        ("ddim", ddim_unconditional, ddim_inputs, ("unet",)),
        ("pixart", pixart, pixart_inputs, ("transformer",)),
        ("kandinsky2_2", kandinsky, kandinsky_inputs, ("unet",)),
        ("if", deepfloyd, deepfloyd_inputs, ("unet",)),
        ("text_to_video", text_to_video, frames_inputs, ("unet",)),
        ("animatediff", animatediff, frames_inputs, ("unet",)),
        ("ldm", ldm, ldm_inputs, ("unet",)),
        ("qwen_image", qwen_image, qwen_image_inputs, ("transformer",)),
        ("cogvideox", cogvideox, cogvideox_inputs, ("transformer",)),
    )
}
