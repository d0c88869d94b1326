"""What in a pipeline is a denoiser and what a scheduler, and which pipelines can't be served."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from adaptive_diffusion.errors import UnsupportedPipelineError

__all__ = [
    "brings_own_attention",
    "check_pipeline",
    "denoisers",
    "is_side_network",
    "sampling_rate",
    "schedulers",
]

_DENOISERS = (
    "diffusers.models.unets.",
    "diffusers.models.transformers.",
    "diffusers.models.controlnets.controlnet_xs.UNet",  # a UNet and its ControlNet in one
)
_SIDE_NETWORKS = ("diffusers.models.controlnets.",)
_ENCODERS = ("transformers.",)
_DENOISER_NAMES = ("unet", "image_unet", "transformer", "denoiser", "prior", "decoder")

# What these pipelines do in their loop is more than calling a denoiser on a continuous sample.
_UNSUPPORTED = {
    "Amused": "it samples discrete tokens, whose changes can't be extrapolated",
    "VQDiffusion": "it samples discrete tokens, whose changes can't be extrapolated",
    "LLaDA": "it samples discrete tokens, whose changes can't be extrapolated",
    "DiffusionGemma": "it samples discrete tokens, whose changes can't be extrapolated",
    "Onnx": "its denoiser is an ONNX session, not a torch module",
    "LEdits": "it edits the attention maps that its denoiser calls leave behind",
    "SAG": "it goes by the attention maps that its denoiser calls leave behind",
    "Pix2PixZero": "it follows gradients through its denoiser calls",
    "Paradigms": "it denoises many timesteps in one call, and takes no single steps",
    "AttendAndExcite": "it follows gradients through its denoiser calls",
    "Panorama": "it blends interleaved views within one step",
    "VersatileDiffusionPipeline": "it makes a pipeline for each call of one of its methods: "
    "use and enable those instead",
    "DiffusionDecode": "its decoder takes all of its denoising steps within one call",
    "Combined": "it wraps other pipelines: enable its inner ones instead",
}


def check_pipeline(pipeline: Any) -> None:
    """Raises `UnsupportedPipelineError`, with the reason, unless the pipeline can be served."""
    name = type(pipeline).__name__
    for part, reason in _UNSUPPORTED.items():
        if part in name:
            inner = ", ".join(f"pipe.{each}" for each in _pipelines_in(pipeline))
            which = f" ({inner})" if inner else ""
            raise UnsupportedPipelineError(f"{name} can't be accelerated: {reason}{which}")
    if not callable(pipeline) or not hasattr(pipeline, "components"):
        raise UnsupportedPipelineError(
            f"{name} is not a diffusers pipeline; for a sampling loop of your own, "
            "wrap the denoiser in AdaptiveDenoiser"
        )
    if not schedulers(pipeline):
        raise UnsupportedPipelineError(
            f"{name} has no scheduler whose step takes a model output and a sample"
        )
    if all(is_side_network(module) for module in denoisers(pipeline)):
        raise UnsupportedPipelineError(f"{name} has no denoiser (a UNet or transformer module)")


def _pipelines_in(pipeline: Any) -> list[str]:
    """The names under which a pipeline keeps others."""
    return [
        name
        for name, part in vars(pipeline).items()
        if callable(part) and hasattr(part, "components")
    ]


def denoisers(pipeline: Any) -> list[nn.Module]:
    """The modules whose calls are skipped: denoisers, and ControlNets beside them."""
    return [
        module
        for name, module in _parts(pipeline)
        if isinstance(module, nn.Module)
        and (_is_one_of(module, _DENOISERS + _SIDE_NETWORKS) or name.startswith(_DENOISER_NAMES))
        and not _is_one_of(module, _ENCODERS)
    ]


def is_side_network(module: nn.Module) -> bool:
    """Whether the module only prepares something for a denoiser, as a ControlNet does."""
    return _is_one_of(module, _SIDE_NETWORKS) and not _is_one_of(module, _DENOISERS)


def brings_own_attention(module: nn.Module) -> bool:
    """Whether some of the module's attention is computed by other code than diffusers' models."""
    processors = getattr(module, "attn_processors", {}).values()
    return not all(type(each).__module__.startswith("diffusers.models") for each in processors)


def schedulers(pipeline: Any) -> list[Any]:
    """The pipeline's schedulers, under whatever names it keeps them."""
    return [part for _, part in _parts(pipeline) if _is_scheduler(part)]


def _is_scheduler(part: Any) -> bool:
    step = getattr(part, "step", None)
    return (
        not isinstance(part, nn.Module)
        and callable(step)
        and callable(getattr(part, "set_timesteps", None))
        and {"model_output", "sample"} <= {*inspect.signature(step).parameters}
    )


def _is_one_of(module: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether the full name of the module's class, or of one that it inherits, begins so."""
    inner = getattr(module, "_orig_mod", module)  # torch.compile's wrapper
    return any(
        f"{base.__module__}.{base.__qualname__}".startswith(names) for base in type(inner).__mro__
    )


def _parts(pipeline: Any) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, part in [*pipeline.components.items(), *vars(pipeline).items()]:
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield name, part


def sampling_rate(pipeline: Any) -> int | None:
    """Of a pipeline's sounds, in samples per second; None if no part says it."""
    for part in ("vocoder", "vae", "unet"):  # what makes the waveform knows
        config = getattr(getattr(pipeline, part, None), "config", None)
        for name in ("sampling_rate", "sample_rate"):
            rate = getattr(config, name, None)
            if rate:
                return int(rate)
    return None
