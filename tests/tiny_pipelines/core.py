"""One pipeline of every kind, tested in detail."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    PixArtTransformer2DModel,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
)

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.flux_sd3 import flux as flux_like
from tiny_pipelines.flux_sd3 import flux_cfg_inputs, flux_inputs, t5_inputs
from tiny_pipelines.flux_sd3 import sd3 as sd3_like
from tiny_pipelines.inputs import image_inputs, masks, pictures, prompts
from tiny_pipelines.parts import (
    BETAS,
    SIZE,
    T5_LENGTH,
    UNET_SHAPE,
    WIDTH,
    clip_text_encoder,
    clip_tokenizer,
    ddim,
    t5_encoder,
    t5_tokenizer,
    tiny_picture_unet,
    tiny_unet,
    tiny_vae,
    tiny_vq_model,
    tiny_wan_transformer,
    tiny_wan_vae,
)
from tiny_pipelines.qwen_and_kin import qwen_image as qwen_image_like
from tiny_pipelines.qwen_and_kin import qwen_inputs
from tiny_pipelines.sdxl import sdxl as sdxl_like


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
    return sdxl_like(diffusers.StableDiffusionXLPipeline)


def sd3() -> DiffusionPipeline:
    return sd3_like(diffusers.StableDiffusion3Pipeline)


def flux() -> DiffusionPipeline:
    return flux_like(diffusers.FluxPipeline)


def wan(kind: type[DiffusionPipeline] = diffusers.WanPipeline, **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of Wan's components."""
    components = {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(multilingual=True),
        "vae": tiny_wan_vae(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "transformer": tiny_wan_transformer(),
    }
    return kind(**components | more)


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


def ltx(kind: type[DiffusionPipeline] = diffusers.LTXPipeline, **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of LTX-Video's components."""
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            patch_size=1,
        ),
        "text_encoder": t5_encoder(),
        "tokenizer": t5_tokenizer(),
        "transformer": LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=WIDTH,
        ),
    }
    return kind(**components | more)


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
        unet=tiny_picture_unet(),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
    )


def ddim_inputs(batch: int) -> dict[str, Any]:
    return {"batch_size": batch}


def deepfloyd_parts() -> dict[str, Any]:
    """A stochastic sampler on pixels that uses the variance channels."""
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(),
        "unet": tiny_unet(in_channels=3, out_channels=6),
        "scheduler": DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }


def deepfloyd() -> DiffusionPipeline:
    return diffusers.IFPipeline(**deepfloyd_parts())


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


def qwen_image() -> DiffusionPipeline:
    return qwen_image_like(diffusers.QwenImagePipeline)


def cogvideox(
    kind: type[DiffusionPipeline] = diffusers.CogVideoXPipeline, **changes: Any
) -> DiffusionPipeline:
    """Any pipeline class made of CogVideoX's components; `changes` are the transformer's."""
    shape = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 32,
        "text_embed_dim": WIDTH,
        "num_layers": 2,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 9,
        "max_text_seq_length": T5_LENGTH,
    }
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=AutoencoderKLCogVideoX(
            latent_channels=4,
            block_out_channels=(8,) * 4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        transformer=CogVideoXTransformer3DModel(**shape | changes),
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


def kandinsky_parts(channels: int = 4, conditioning: str = "image") -> dict[str, Any]:
    return {
        "unet": tiny_unet(
            in_channels=channels,
            out_channels=8,
            addition_embed_type=conditioning,
            encoder_hid_dim=WIDTH,
            encoder_hid_dim_type=f"{conditioning.removesuffix('_hint')}_proj",
        ),
        "scheduler": DDPMScheduler(**BETAS, clip_sample=False),
        "movq": tiny_vq_model(),
    }


def kandinsky() -> DiffusionPipeline:
    return diffusers.KandinskyV22Pipeline(**kandinsky_parts())


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


PIPELINES = [
    TinyPipeline("sd15", diffusers.StableDiffusionPipeline, sd15, image_inputs, ("unet",)),
    TinyPipeline("sdxl", diffusers.StableDiffusionXLPipeline, sdxl, image_inputs, ("unet",)),
    TinyPipeline("sd3", diffusers.StableDiffusion3Pipeline, sd3, t5_inputs, ("transformer",)),
    TinyPipeline("flux", diffusers.FluxPipeline, flux, flux_inputs, ("transformer",)),
    TinyPipeline("flux_cfg", diffusers.FluxPipeline, flux, flux_cfg_inputs, ("transformer",)),
    TinyPipeline("wan", diffusers.WanPipeline, wan, wan_inputs, ("transformer",)),
    TinyPipeline(
        "wan22",
        diffusers.WanPipeline,
        wan22,
        wan_inputs,
        ("transformer", "transformer_2"),
        strict=False,
    ),
    TinyPipeline("ltx", diffusers.LTXPipeline, ltx, ltx_inputs, ("transformer",)),
    TinyPipeline(
        "controlnet",
        diffusers.StableDiffusionControlNetPipeline,
        controlnet,
        controlnet_inputs,
        ("unet",),
        side_networks=("controlnet",),
    ),
    TinyPipeline(
        "inpaint", diffusers.StableDiffusionInpaintPipeline, inpaint, inpaint_inputs, ("unet",)
    ),
    TinyPipeline(
        "img2img", diffusers.StableDiffusionImg2ImgPipeline, img2img, img2img_inputs, ("unet",)
    ),
    TinyPipeline("dit", diffusers.DiTPipeline, dit, dit_inputs, ("transformer",)),
    TinyPipeline("ddim", diffusers.DDIMPipeline, ddim_unconditional, ddim_inputs, ("unet",)),
    TinyPipeline("pixart", diffusers.PixArtAlphaPipeline, pixart, pixart_inputs, ("transformer",)),
    TinyPipeline(
        "kandinsky2_2", diffusers.KandinskyV22Pipeline, kandinsky, kandinsky_inputs, ("unet",)
    ),
    TinyPipeline("if", diffusers.IFPipeline, deepfloyd, deepfloyd_inputs, ("unet",)),
    TinyPipeline(
        "text_to_video", diffusers.TextToVideoSDPipeline, text_to_video, frames_inputs, ("unet",)
    ),
    TinyPipeline(
        "animatediff", diffusers.AnimateDiffPipeline, animatediff, frames_inputs, ("unet",)
    ),
    TinyPipeline("ldm", diffusers.LDMTextToImagePipeline, ldm, ldm_inputs, ("unet",)),
    TinyPipeline(
        "qwen_image", diffusers.QwenImagePipeline, qwen_image, qwen_inputs, ("transformer",)
    ),
    TinyPipeline(
        "cogvideox", diffusers.CogVideoXPipeline, cogvideox, cogvideox_inputs, ("transformer",)
    ),
]
