"""Modular pipelines, with guiders."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffusers
from diffusers import ClassifierFreeGuidance, DiffusionPipeline, ModularPipeline
from diffusers.guiders.guider_utils import BaseGuidance
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig

from tiny_pipelines import core, flux_sd3, image_transformers, qwen_and_kin, wan_and_kin
from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.inputs import photographs, prompts
from tiny_pipelines.parts import SIZE, T5_LENGTH, qwen3_encoder


def modular(
    kind: type[ModularPipeline], build: Callable[[], DiffusionPipeline], **more: Any
) -> ModularPipeline:
    """A modular pipeline with the components of another pipeline, and some more."""
    pipe = kind()
    components = {**build().components, **more}
    pipe.update_components(
        **{name: components[name] for name in pipe.component_names if components.get(name)}
    )
    return pipe


def entry(
    kind: type[ModularPipeline],
    build: Callable[[], DiffusionPipeline],
    inputs: Callable[[int], dict[str, Any]],
    name: str = "",
    components: dict[str, Any] | None = None,
    **about: Any,
) -> TinyPipeline:
    """A modular pipeline with the components of another, by default with a transformer."""
    about = {"denoisers": ("transformer",)} | about
    return TinyPipeline(
        f"{kind.__name__}/{name}" if name else kind.__name__,
        kind,
        functools.partial(modular, kind, build, **(components or {})),
        inputs,
        **about,
    )


def like(
    kind: type[ModularPipeline], model: TinyPipeline, name: str = "", **about: Any
) -> TinyPipeline:
    """A modular pipeline with another one's components, which is asked for the same."""
    inputs = {*kind().blocks.input_names}

    def asked(batch: int) -> dict[str, Any]:
        return {key: value for key, value in model.inputs(batch).items() if key in inputs}

    about = {"denoisers": model.denoisers, "whole": model.whole} | about
    return entry(kind, model.build, asked, name, **about)


def _models(family: ModuleType) -> dict[str, TinyPipeline]:
    return {model.name: model for model in family.PIPELINES}


_QWEN = _models(qwen_and_kin)
_VIDEO = _models(wan_and_kin)


def picture(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(batch), "height": SIZE, "width": SIZE}


def t5_picture(batch: int) -> dict[str, Any]:
    return picture(batch) | {"max_sequence_length": T5_LENGTH}


def video(batch: int) -> dict[str, Any]:
    return t5_picture(batch) | {"num_frames": 9}


def large_video(batch: int) -> dict[str, Any]:
    return video(batch) | {"height": 64, "width": 64}


def qwen_picture(batch: int) -> dict[str, Any]:
    return picture(batch) | {"negative_prompt": ["dull"] * batch}


def krea2_picture(batch: int) -> dict[str, Any]:
    return qwen_picture(batch) | {"max_sequence_length": T5_LENGTH}


def krea2() -> DiffusionPipeline:
    """The blocks read twelve fixed layers of a text encoder that has 36."""
    pipe = image_transformers.krea2()
    pipe.text_encoder = qwen3_encoder(layers=36).model
    pipe.transformer = type(pipe.transformer).from_config(
        pipe.transformer.config, num_text_layers=12
    )
    return pipe


def kontext(batch: int) -> dict[str, Any]:
    """The picture to be edited keeps its size."""
    return t5_picture(batch) | {
        "image": photographs(batch),
        "_auto_resize": False,
        "max_area": SIZE**2,
    }


def ideogram4_picture(batch: int) -> dict[str, Any]:
    return t5_picture(batch) | {"guidance_schedule": (7.0,) * 6}


def wan_picture(batch: int) -> dict[str, Any]:
    """One picture: of several, the pipeline takes the generators' number for theirs."""
    return video(batch) | {"image": photographs(1)[0]}


def vace(batch: int) -> dict[str, Any]:
    """The pipeline takes no list, neither of prompts nor of generators."""
    return video(batch) | {"prompt": "a boat", "generator": None, "video": photographs(9)}


_BLOCKS = "mid_block.attentions.0.transformer_blocks"
_LAYERS = LayerSkipConfig(indices=[0], fqn=_BLOCKS)
_SCORES = LayerSkipConfig(
    indices=[0],
    fqn=_BLOCKS,
    skip_attention=False,
    skip_attention_scores=True,
    skip_ff=False,
)
_ENERGY = SmoothedEnergyGuidanceConfig(indices=[0], fqn=_BLOCKS)

GUIDERS: dict[str, Callable[[], BaseGuidance]] = {
    "zero_star": lambda: diffusers.ClassifierFreeZeroStarGuidance(zero_init_steps=1),
    "adaptive_projected": lambda: diffusers.AdaptiveProjectedGuidance(
        adaptive_projected_guidance_momentum=-0.5
    ),
    "adaptive_projected_mix": lambda: diffusers.AdaptiveProjectedMixGuidance(),
    "auto": lambda: diffusers.AutoGuidance(auto_guidance_config=_LAYERS),
    "perturbed_attention": lambda: diffusers.PerturbedAttentionGuidance(
        perturbed_guidance_config=_SCORES, perturbed_guidance_stop=1.0
    ),
    "skip_layer": lambda: diffusers.SkipLayerGuidance(
        skip_layer_config=_LAYERS, skip_layer_guidance_start=0.3, skip_layer_guidance_stop=0.7
    ),
    "smoothed_energy": lambda: diffusers.SmoothedEnergyGuidance(seg_guidance_config=_ENERGY),
    "tangential": lambda: diffusers.TangentialClassifierFreeGuidance(),
}
"""Guidance of all kinds for a UNet."""

_COMING_AND_GOING = ("perturbed_attention", "skip_layer", "smoothed_energy")
_MORE_OF_A_KIND = ("adaptive_projected_mix", "smoothed_energy", "tangential", "zero_star")


def guided_sdxl(guider: str) -> ModularPipeline:
    return modular(diffusers.StableDiffusionXLModularPipeline, core.sdxl, guider=GUIDERS[guider]())


PIPELINES: list[TinyPipeline] = [
    entry(diffusers.StableDiffusionXLModularPipeline, core.sdxl, picture, denoisers=("unet",)),
    entry(diffusers.StableDiffusion3ModularPipeline, core.sd3, t5_picture),
    entry(
        diffusers.StableDiffusion3ModularPipeline,
        core.sd3,
        t5_picture,
        "guided_half_way",
        {"guider": ClassifierFreeGuidance(stop=0.5)},
        strict=False,
    ),
    entry(
        diffusers.StableDiffusion3ModularPipeline,
        core.sd3,
        t5_picture,
        "unguided",
        {"guider": ClassifierFreeGuidance(enabled=False)},
    ),
    entry(diffusers.FluxModularPipeline, core.flux, t5_picture),
    entry(diffusers.QwenImageModularPipeline, core.qwen_image, qwen_picture),
    entry(diffusers.LTXModularPipeline, core.ltx, video),
    entry(diffusers.WanModularPipeline, core.wan, large_video),
    entry(
        diffusers.Wan22ModularPipeline,
        core.wan22,
        large_video,
        denoisers=("transformer", "transformer_2"),
        strict=False,
    ),
    entry(
        diffusers.FluxKontextModularPipeline,
        functools.partial(flux_sd3.flux, diffusers.FluxKontextPipeline),
        kontext,
    ),
    entry(
        diffusers.Ideogram4ModularPipeline,
        image_transformers.ideogram4,
        ideogram4_picture,
        denoisers=("transformer", "unconditional_transformer"),
    ),
    entry(diffusers.Krea2ModularPipeline, krea2, krea2_picture),
    entry(diffusers.Krea2TurboModularPipeline, krea2, t5_picture),
    entry(diffusers.ErnieImageModularPipeline, image_transformers.ernie, qwen_picture),
    entry(
        diffusers.WanImage2VideoModularPipeline, wan_and_kin.wan_image, wan_picture, batches=False
    ),
    entry(
        diffusers.Wan22Image2VideoModularPipeline,
        wan_and_kin.wan22_image,
        wan_picture,
        denoisers=("transformer", "transformer_2"),
        strict=False,
        batches=False,
    ),
    entry(
        diffusers.Wan22VaceModularPipeline,
        functools.partial(wan_and_kin.wan_vace, boundary_ratio=0.8, transformer_2=True),
        vace,
        denoisers=("transformer", "transformer_2"),
        strict=False,
        batches=False,
    ),
    like(diffusers.ZImageModularPipeline, _QWEN["ZImagePipeline"]),
    like(diffusers.Flux2ModularPipeline, _QWEN["Flux2Pipeline"]),
    like(diffusers.Flux2KleinModularPipeline, _QWEN["Flux2KleinPipeline"]),
    like(diffusers.Flux2KleinBaseModularPipeline, _QWEN["Flux2KleinPipeline"]),
    like(diffusers.QwenImageEditModularPipeline, _QWEN["QwenImageEditPipeline"]),
    # its prompts are each to hold all of the pictures
    like(
        diffusers.QwenImageEditPlusModularPipeline,
        _QWEN["QwenImageEditPlusPipeline"],
        batches=False,
    ),
    like(diffusers.QwenImageLayeredModularPipeline, _QWEN["QwenImageLayeredPipeline"]),
    like(diffusers.QwenImage21ModularPipeline, _QWEN["QwenImage21Pipeline"]),
    like(diffusers.QwenImage21TurboModularPipeline, _QWEN["QwenImage21Pipeline"]),
    # its VAE, which is always run, decodes one video at a time
    like(
        diffusers.HunyuanVideo15ModularPipeline,
        _VIDEO["HunyuanVideo15Pipeline"],
        batches=False,
        slow=True,
    ),
    like(diffusers.LTX2ModularPipeline, _VIDEO["LTX2Pipeline"], slow=True),
    *(
        TinyPipeline(
            f"StableDiffusionXLModularPipeline/{guider}",
            diffusers.StableDiffusionXLModularPipeline,
            functools.partial(guided_sdxl, guider),
            picture,
            ("unet",),
            strict=guider not in _COMING_AND_GOING,
            slow=guider in _MORE_OF_A_KIND,
        )
        for guider in GUIDERS
    ),
]

REFUSED = {"EchoModularPipeline": "no scheduler"}

NOT_BUILT = {
    "AnimaModularPipeline": "its text conditioner has no tiny build yet",
    "Cosmos3DistilledModularPipeline": "its blocks have no tiny build yet",
    "Cosmos3OmniModularPipeline": "its blocks have no tiny build yet",
    "Flux3DistilledModularPipeline": "its transformer has no tiny build yet",
    "Flux3ModularPipeline": "its transformer has no tiny build yet",
    "HeliosModularPipeline": "its blocks have no tiny build yet",
    "HeliosPyramidDistilledModularPipeline": "its blocks have no tiny build yet",
    "HeliosPyramidModularPipeline": "its blocks have no tiny build yet",
    "LTX25ModularPipeline": "its diffusion decoder has no tiny build yet",
    "MiniMaxH3ModularPipeline": "its transformer and autoencoders have no tiny build yet",
    "MiniMaxMusic3ModularPipeline": "its transformer and decoders have no tiny build yet",
    "WanAnimate2DistilledModularPipeline": "its transformer has no tiny build yet",
    "WanAnimate2ModularPipeline": "its transformer has no tiny build yet",
}
