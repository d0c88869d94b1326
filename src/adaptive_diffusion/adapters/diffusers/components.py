"""What in a pipeline may be a denoiser and what is a scheduler; which pipelines can't be served.

Which of several modules denoises is not settled here: a generation sees it in the loop.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from adaptive_diffusion.errors import UnsupportedPipelineError

__all__ = [
    "candidates",
    "check_pipeline",
    "denoisers",
    "is_side_network",
    "is_usual_denoiser",
    "name_of",
    "sampling_rate",
    "schedulers",
]

_DENOISERS = (
    "diffusers.models.unets.",
    "diffusers.models.transformers.",
    "diffusers.models.controlnets.controlnet_xs.UNet",  # a UNet and its ControlNet in one
)
_SIDE_NETWORKS = ("diffusers.models.controlnets.",)
_OTHERS = ("transformers.", "diffusers.models.autoencoders.")  # encoders and decoders
_PIPELINES = ("diffusers.", "diffusers_modules.")

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
    reason = _reason_against(type(pipeline))
    if reason is not None:
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
            f"{name} has no scheduler whose step takes a model output and a sample, and which has "
            "a set_timesteps: its loop can't be followed"
        )
    if all(is_side_network(part) for part in candidates(pipeline)):
        raise UnsupportedPipelineError(f"{name} has no denoiser (a UNet or transformer module)")


def _reason_against(cls: type) -> str | None:
    """Why the class can't be served: for one of diffusers' that it is, inherits or copies."""
    known = dir(sys.modules.get("diffusers"))
    bases = [
        base.__name__
        for base in cls.__mro__
        if base.__module__.startswith(_PIPELINES) or base.__name__ in known
    ]
    found = (reason for part, reason in _UNSUPPORTED.items() for base in bases if part in base)
    return next(found, None)


def _pipelines_in(pipeline: Any) -> list[str]:
    """The names under which a pipeline keeps others."""
    return [name for name, part in vars(pipeline).items() if _is_pipeline(part)]


def _is_pipeline(part: Any) -> bool:
    return callable(part) and hasattr(part, "components")


def denoisers(pipeline: Any) -> list[Any]:
    """The modules whose calls are skipped: denoisers, and ControlNets beside them.

    Those of diffusers' classes; where there are none, all that may be one.
    """
    found = candidates(pipeline)
    usual = [part for part in found if is_usual_denoiser(part) or is_side_network(part)]
    return usual if any(map(is_usual_denoiser, usual)) else found


def candidates(pipeline: Any) -> list[Any]:
    """Everything that may be a denoiser or a ControlNet: modules, and engines in their place."""
    return [part for _, part in _parts(pipeline) if _may_denoise(part)]


def _may_denoise(part: Any) -> bool:
    if isinstance(part, nn.Module):
        return not _is_one_of(part, _OTHERS) or is_usual_denoiser(part)
    return _is_engine(part)


def _is_engine(part: Any) -> bool:
    """Whether it is an object of somebody's own that is called, as an engine for a denoiser is."""
    own = not type(part).__module__.startswith(("diffusers", "transformers", "torch", "builtins"))
    is_function = inspect.isroutine(part) or isinstance(part, type)
    return own and callable(part) and not (is_function or _is_pipeline(part) or _is_scheduler(part))


def is_usual_denoiser(module: Any) -> bool:
    """Whether its class is one of diffusers' denoisers."""
    return _is_one_of(module, _DENOISERS)


def is_side_network(module: Any) -> bool:
    """Whether the module only prepares something for a denoiser, as a ControlNet does."""
    return _is_one_of(module, _SIDE_NETWORKS) and not is_usual_denoiser(module)


def schedulers(pipeline: Any) -> list[Any]:
    """The pipeline's schedulers, under whatever names it keeps them; what a proxy stands for."""
    found = [_scheduler_in(part) for _, part in _parts(pipeline) if _is_scheduler(part)]
    return list({id(each): each for each in found}.values())


def _scheduler_in(part: Any) -> Any:
    """The scheduler itself, or the one that a proxy passes its calls on to."""
    owner = getattr(part.step, "__self__", part)
    if owner is not part and _is_scheduler(owner):
        return owner
    if _takes_anything(part.step):
        inner = [value for value in vars(part).values() if _is_scheduler(value)]
        return _scheduler_in(inner[0]) if inner else part
    return part


def _is_scheduler(part: Any) -> bool:
    if isinstance(part, (nn.Module, type)) or not callable(getattr(part, "step", None)):
        return False
    names = {*inspect.signature(part.step).parameters}
    steps = {"model_output", "sample"} <= names or _takes_anything(part.step)
    return steps and callable(getattr(part, "set_timesteps", None))


def _takes_anything(step: Any) -> bool:
    """Whether it is a function that passes on whatever it is given."""
    kinds = {parameter.kind for parameter in inspect.signature(step).parameters.values()}
    return {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds


def _is_one_of(module: Any, names: tuple[str, ...]) -> bool:
    """Whether the full name of the module's class, or of one that it inherits, begins so."""
    inner = getattr(module, "_orig_mod", module)  # torch.compile's wrapper
    return any(
        f"{base.__module__}.{base.__qualname__}".startswith(names) for base in type(inner).__mro__
    )


def _parts(pipeline: Any) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, part in [*pipeline.components.items(), *vars(pipeline).items()]:
        for each in _unpacked(part):
            if each is not None and id(each) not in seen:
                seen.add(id(each))
                yield name, each


def name_of(part: Any, pipeline: Any) -> str:
    """What the pipeline calls a part; those of a list have one name."""
    names = (name for name, each in _parts(pipeline) if each is part)
    return next(names, type(part).__name__)


def _unpacked(part: Any) -> list[Any]:
    """What is in a list or dict of modules; anything else as it is."""
    if isinstance(part, (list, tuple, nn.ModuleList)):
        return list(part)
    return list(part.values()) if isinstance(part, (Mapping, nn.ModuleDict)) else [part]


def sampling_rate(pipeline: Any) -> int | None:
    """Of a pipeline's sounds, in samples per second; None if no part says it."""
    for part in ("vocoder", "vae", "unet"):  # what makes the waveform knows
        config = getattr(getattr(pipeline, part, None), "config", None)
        for name in ("sampling_rate", "sample_rate"):
            rate = getattr(config, name, None)
            if rate:
                return int(rate)
    return None
