"""Video: the Wan, LTX, Hunyuan, CogVideoX and SkyReels families."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
from diffusers import (
    DiffusionPipeline,
    SkyReelsV2Transformer3DModel,
    WanAnimateTransformer3DModel,
    WanVACETransformer3DModel,
)
from transformers import CLIPVisionModel

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.core import wan, wan22, wan_inputs
from tiny_pipelines.inputs import films, photographs, pictures, prompts
from tiny_pipelines.parts import (
    SIZE,
    WIDTH,
    clip_image_encoder,
    clip_image_processor,
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


_WAN22 = {"denoisers": ("transformer", "transformer_2"), "strict": False}


def _entry(
    name: str, build: Any, inputs: Any, denoisers: tuple[str, ...] = ("transformer",), **flags: Any
) -> TinyPipeline:
    kind = getattr(diffusers, name.split("/")[0])
    return TinyPipeline(name, kind, build, inputs, denoisers, **flags)


def _skyreels(name: str, inputs: Any, **flags: Any) -> TinyPipeline:
    return _entry(name, partial(skyreels, getattr(diffusers, name.split("/")[0])), inputs, **flags)


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
    _skyreels("SkyReelsV2Pipeline", small_inputs),
    _entry("SkyReelsV2ImageToVideoPipeline", skyreels_image, picture_inputs),
    _skyreels("SkyReelsV2DiffusionForcingPipeline", forcing_inputs),
    _skyreels("SkyReelsV2DiffusionForcingPipeline/long", long_forcing_inputs),
    _skyreels(
        "SkyReelsV2DiffusionForcingPipeline/block by block", block_forcing_inputs, strict=False
    ),
    _skyreels("SkyReelsV2DiffusionForcingImageToVideoPipeline", forcing_picture_inputs),
    _skyreels("SkyReelsV2DiffusionForcingVideoToVideoPipeline", forcing_film_inputs),
]
