"""Video: all others."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
from diffusers import (
    AutoencoderKLTemporalDecoder,
    ControlNetModel,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    MotionAdapter,
    SparseControlNetModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.core import frames_inputs, sdxl, text_to_video
from tiny_pipelines.inputs import films, photographs, pictures, prompts
from tiny_pipelines.parts import (
    BETAS,
    CONDITION_CHANNELS,
    SIZE,
    UNET_SHAPE,
    WIDTH,
    certain,
    clip_image_encoder,
    clip_image_processor,
    clip_text_encoder,
    clip_tokenizer,
    ddim,
    tiny_unet,
    tiny_vae,
)

FRAMES = 3


def motion_adapter() -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=UNET_SHAPE["block_out_channels"],
        motion_layers_per_block=1,
        motion_norm_num_groups=UNET_SHAPE["norm_num_groups"],
        motion_num_attention_heads=2,
    )


def animatediff(kind: type[DiffusionPipeline], **more: Any) -> DiffusionPipeline:
    """Any pipeline class made of AnimateDiff's components."""
    components = {
        "vae": tiny_vae(),
        "text_encoder": clip_text_encoder(),
        "tokenizer": clip_tokenizer(),
        "unet": tiny_unet(),
        "motion_adapter": motion_adapter(),
        "scheduler": ddim(),
    }
    return kind(**components | more)


def animatediff_pag() -> DiffusionPipeline:
    return animatediff(diffusers.AnimateDiffPAGPipeline, pag_applied_layers="mid")


def animatediff_sdxl() -> DiffusionPipeline:
    components = sdxl().components | {"motion_adapter": motion_adapter(), "scheduler": ddim()}
    return diffusers.AnimateDiffSDXLPipeline(**components)


def animatediff_controlnet(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    controlnet = ControlNetModel(
        conditioning_embedding_out_channels=CONDITION_CHANNELS, **UNET_SHAPE
    )
    return animatediff(kind, controlnet=controlnet)


def sparse_controlnet() -> DiffusionPipeline:
    shape = UNET_SHAPE | {
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "attention_head_dim": 2,
        "motion_num_attention_heads": 2,
    }
    return animatediff(
        diffusers.AnimateDiffSparseControlNetPipeline,
        vae=certain(tiny_vae()),
        controlnet=SparseControlNetModel(**shape),
    )


def pia() -> DiffusionPipeline:
    unet = UNetMotionModel.from_unet2d(tiny_unet(in_channels=9), motion_adapter())
    return animatediff(diffusers.PIAPipeline, unet=unet)


def i2vgen_xl() -> DiffusionPipeline:
    """It also draws from torch's own generator: only repeatable where that is seeded, too."""
    levels = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    return I2VGenXLPipeline(
        vae=certain(tiny_vae()),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        image_encoder=clip_image_encoder(),
        feature_extractor=clip_image_processor(),
        unet=I2VGenXLUNet(sample_size=SIZE // 2, **UNET_SHAPE | levels),
        scheduler=ddim(),
    )


def stable_video_diffusion() -> DiffusionPipeline:
    time_width = 8
    return diffusers.StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2
        ),
        image_encoder=clip_image_encoder(),
        unet=UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            layers_per_block=1,
            num_attention_heads=2,
            cross_attention_dim=WIDTH,
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=3 * time_width,
        ),
        scheduler=EulerDiscreteScheduler(
            **BETAS,
            prediction_type="v_prediction",
            timestep_type="continuous",
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
        ),
        feature_extractor=clip_image_processor(),
    )


def video_to_video() -> DiffusionPipeline:
    return diffusers.VideoToVideoSDPipeline(**text_to_video().components)


def first_frame_inputs(batch: int) -> dict[str, Any]:
    return frames_inputs(batch) | {"image": pictures(batch, size=SIZE // 2)}


def i2vgen_xl_inputs(batch: int) -> dict[str, Any]:
    """The text encoder of transformers 5 has no layer to skip."""
    return frames_inputs(batch) | {"image": photographs(batch), "clip_skip": None}


def stable_video_inputs(batch: int) -> dict[str, Any]:
    return {
        "image": pictures(batch),
        "height": SIZE // 2,
        "width": SIZE // 2,
        "num_frames": FRAMES,
    }


def control_inputs(batch: int) -> dict[str, Any]:
    return frames_inputs(batch) | {"conditioning_frames": photographs(FRAMES)}


def sparse_control_inputs(batch: int) -> dict[str, Any]:
    return frames_inputs(batch) | {
        "conditioning_frames": photographs(1),
        "controlnet_frame_indices": [FRAMES - 1],
    }


def film_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "video": films(batch, FRAMES, SIZE // 2),
        "guidance_scale": 5.0,
        "strength": 0.9,
        "enforce_inference_steps": True,
    }


def film_control_inputs(batch: int) -> dict[str, Any]:
    """One film, no list of films: the pipeline takes the list's length for the number of frames."""
    frames = photographs(FRAMES, SIZE // 2)
    return film_inputs(batch) | {"video": frames, "conditioning_frames": frames[::-1]}


def video_to_video_inputs(batch: int) -> dict[str, Any]:
    """The film is given as latents: for pixels, the pipeline encodes its first frame only."""
    film = pictures(batch * FRAMES, channels=4, size=SIZE // 4)
    return {
        "prompt": prompts(batch),
        "video": film.unflatten(0, (batch, FRAMES)),
        "guidance_scale": 5.0,
        "strength": 1.0,
    }


PIPELINES = [
    TinyPipeline(
        "AnimateDiffPipeline",
        diffusers.AnimateDiffPipeline,
        partial(animatediff, diffusers.AnimateDiffPipeline),
        frames_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "AnimateDiffPAGPipeline",
        diffusers.AnimateDiffPAGPipeline,
        animatediff_pag,
        frames_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "AnimateDiffSDXLPipeline",
        diffusers.AnimateDiffSDXLPipeline,
        animatediff_sdxl,
        frames_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "AnimateDiffControlNetPipeline",
        diffusers.AnimateDiffControlNetPipeline,
        partial(animatediff_controlnet, diffusers.AnimateDiffControlNetPipeline),
        control_inputs,
        ("unet",),
        side_networks=("controlnet",),
        batches=False,  # its control frames are not repeated for a second prompt
    ),
    TinyPipeline(
        "AnimateDiffSparseControlNetPipeline",
        diffusers.AnimateDiffSparseControlNetPipeline,
        sparse_controlnet,
        sparse_control_inputs,
        ("unet",),
        side_networks=("controlnet",),
    ),
    TinyPipeline(
        "AnimateDiffVideoToVideoPipeline",
        diffusers.AnimateDiffVideoToVideoPipeline,
        partial(animatediff, diffusers.AnimateDiffVideoToVideoPipeline),
        film_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "AnimateDiffVideoToVideoControlNetPipeline",
        diffusers.AnimateDiffVideoToVideoControlNetPipeline,
        partial(animatediff_controlnet, diffusers.AnimateDiffVideoToVideoControlNetPipeline),
        film_control_inputs,
        ("unet",),
        side_networks=("controlnet",),
        batches=False,  # its control frames are not repeated for a second prompt
    ),
    TinyPipeline("PIAPipeline", diffusers.PIAPipeline, pia, first_frame_inputs, ("unet",)),
    TinyPipeline("I2VGenXLPipeline", I2VGenXLPipeline, i2vgen_xl, i2vgen_xl_inputs, ("unet",)),
    TinyPipeline(
        "StableVideoDiffusionPipeline",
        diffusers.StableVideoDiffusionPipeline,
        stable_video_diffusion,
        stable_video_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "TextToVideoSDPipeline",
        diffusers.TextToVideoSDPipeline,
        text_to_video,
        frames_inputs,
        ("unet",),
    ),
    TinyPipeline(
        "VideoToVideoSDPipeline",
        diffusers.VideoToVideoSDPipeline,
        video_to_video,
        video_to_video_inputs,
        ("unet",),
        batches=False,  # it wants a generator per frame
    ),
]
