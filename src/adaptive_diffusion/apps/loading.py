"""From names to a pipeline: model, scheduler, device and number type."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch

from adaptive_diffusion.miniatures import miniatures

__all__ = ["DTYPES", "SCHEDULERS", "load_pipeline"]

DTYPES = ("float32", "float16", "bfloat16")

SCHEDULERS: dict[str, tuple[str, dict[str, str]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
"""Short name: diffusers class and the settings that make it that solver."""


_LONGEST_REASON = 160  # characters of what the hub's client has to say


def load_pipeline(
    model: str, scheduler: str | None = None, device: str | None = None, dtype: str = "float32"
) -> Any:
    """A diffusers pipeline, ready to be called.

    Args:
        model: a folder, a miniature's name or a hub id.
        scheduler: a name of `SCHEDULERS`; the model's own by default.
        device: a torch device; a GPU where there is one, by default.
        dtype: a name of `DTYPES`.

    Raises:
        ValueError: says which of them was wrong, and what there is. All but the scheduler's fit
            to the model is checked before the model is loaded.
    """
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise ValueError(f"no scheduler {scheduler!r}: choose from {', '.join(SCHEDULERS)}")
    if dtype not in DTYPES:
        raise ValueError(f"no dtype {dtype!r}: choose from {', '.join(DTYPES)}")
    place = _device(device)
    pipe = _from_pretrained(_locate(model), model, getattr(torch, dtype))
    if scheduler is not None:
        _use_scheduler(pipe, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by kind of device
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name!r} can't be used here ({reason}): leave --device out, or say cpu"
        ) from error
    return device


def _locate(model: str) -> Path | str:
    """The folder of a model, or its hub id if that is what the name looks like."""
    at_hand = miniatures()
    if model in at_hand:
        return at_hand[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise ValueError(
                f"model folder {model!r} has no model_index.json: "
                "name a folder that a diffusers pipeline was saved to"
            )
        return folder
    if model.count("/") != 1 or model.startswith((".", "/", "~")) or model.endswith("/"):
        raise ValueError(
            f"no model {model!r}: give a pipeline's folder, a hub id (owner/name) "
            f"or a miniature (at hand: {', '.join(at_hand) or 'none'})"
        )
    return model


def _from_pretrained(place: Path | str, model: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    options = {"local_files_only": True} if isinstance(place, Path) else {}
    try:
        with warnings.catch_warnings():  # torch_dtype has a new name, which 0.35 doesn't know
            warnings.simplefilter("ignore", FutureWarning)
            return diffusers.DiffusionPipeline.from_pretrained(place, torch_dtype=dtype, **options)
    except OSError as error:
        if isinstance(place, Path):
            raise ValueError(f"model folder {model!r} can't be loaded: {error}") from error
        raise ValueError(
            f"no folder {model!r} here, and the hub gave no such model: "
            f"{textwrap.shorten(str(error), _LONGEST_REASON, placeholder=' ...')}"
        ) from error


def _use_scheduler(pipe: Any, name: str) -> None:
    import diffusers

    class_name, settings = SCHEDULERS[name]
    present = getattr(pipe, "scheduler", None)
    if present is None:
        raise ValueError(f"{type(pipe).__name__} has no scheduler to replace: omit --scheduler")
    if _is_flow(present) != name.startswith("flow-"):
        kind = "a flow-matching" if _is_flow(present) else "not a flow-matching"
        fitting = [each for each in SCHEDULERS if each.startswith("flow-") == _is_flow(present)]
        raise ValueError(
            f"scheduler {name!r} does not fit: this is {kind} model; choose from "
            f"{', '.join(fitting)}"
        )
    scheduler_class = getattr(diffusers, class_name)
    if _passes_eta(pipe) and "eta" not in inspect.signature(scheduler_class.step).parameters:
        raise ValueError(f"{type(pipe).__name__} works with the scheduler ddim only, not {name!r}")
    pipe.scheduler = scheduler_class.from_config(present.config, **settings)


def _is_flow(scheduler: Any) -> bool:
    flows = scheduler.config.get("prediction_type") == "flow_prediction"
    return flows or "FlowMatch" in type(scheduler).__name__


def _passes_eta(pipe: Any) -> bool:
    """Whether the pipeline gives its scheduler a DDIM's η without asking if it takes one."""
    takes_eta = "eta" in inspect.signature(type(pipe).__call__).parameters
    return takes_eta and not hasattr(pipe, "prepare_extra_step_kwargs")
