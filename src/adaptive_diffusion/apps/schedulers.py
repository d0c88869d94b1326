"""Schedulers by short names, and which of them fit a pipeline."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

__all__ = ["SCHEDULERS", "fitting", "make_scheduler", "takes"]

_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
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
    "flow-dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", **_FLOW}),
    "flow-unipc": ("UniPCMultistepScheduler", _FLOW),
}
"""Short name: diffusers class and the settings that make it that solver."""


def make_scheduler(pipe: Any, name: str) -> Any:
    """A scheduler of that name for the pipeline's model.

    Raises:
        ValueError: if it would not solve the model's equation, the pipeline can't drive it, or it
            needs a package that is not installed.
    """
    return _make(type(pipe), getattr(pipe, "scheduler", None), name)


def fitting(kind: type, present: Any) -> list[str]:
    """The schedulers that `make_scheduler` makes for a pipeline of this class.

    Args:
        kind: the pipeline's class.
        present: its scheduler; None if it has none.
    """
    return [name for name in SCHEDULERS if _fits(kind, present, name)]


def _fits(kind: type, present: Any, name: str) -> bool:
    try:
        _make(kind, present, name)
    except ValueError:
        return False
    return True


def _make(kind: type, present: Any, name: str) -> Any:
    import diffusers

    class_name, settings = SCHEDULERS[name]
    if present is None:
        raise ValueError(f"{kind.__name__} has no scheduler to replace: omit --scheduler")
    if _is_flow(present) != name.startswith("flow-"):
        model = "a flow-matching" if _is_flow(present) else "not a flow-matching"
        alike = [each for each in SCHEDULERS if each.startswith("flow-") == _is_flow(present)]
        raise ValueError(
            f"scheduler {name!r} does not fit: this is {model} model; choose from "
            f"{', '.join(alike)}"
        )
    scheduler_class = getattr(diffusers, class_name)
    if missing := _missing_packages(scheduler_class):
        raise ValueError(
            f"scheduler {name!r} needs {missing}, which is not installed: pip install {missing}"
        )
    if _passes_eta(kind) and not takes(scheduler_class.step, "eta"):
        raise ValueError(f"{kind.__name__} works with the scheduler ddim only, not {name!r}")
    options = settings | _shift(present, scheduler_class)
    scheduler = scheduler_class.from_config(present.config, **options)
    _check_fit(kind, present, scheduler, name)
    return scheduler


def _missing_packages(scheduler_class: type) -> str:
    """Diffusers has a stand-in for a class that needs a package which is not installed."""
    needed = getattr(scheduler_class, "_backends", ())
    return " ".join(each for each in needed if importlib.util.find_spec(each) is None)


def _check_fit(kind: type, present: Any, scheduler: Any, name: str) -> None:
    """Refuses what would run and make worse pictures, or fail in the midst of the call."""
    reason = None
    source = inspect.getsource(kind)
    scales_noise = "init_noise_sigma" in source or "add_noise" in source
    if getattr(scheduler, "init_noise_sigma", 1.0) != 1.0 and not scales_noise:
        reason = "the pipeline does not scale its noise for it"
    elif not all(takes(scheduler.set_timesteps, each) for each in _own_levels(source)):
        reason = "the pipeline gives noise levels of its own, which it can't take"
    elif present.config.get("snr_shift_scale", 1.0) != 1.0 and not takes(
        type(scheduler), "snr_shift_scale"
    ):
        reason = "the model's noise schedule is shifted, which it can't do"
    if reason:
        raise ValueError(f"scheduler {name!r} does not fit {kind.__name__}: {reason}")


def _own_levels(source: str) -> list[str]:
    """What a pipeline gives its scheduler instead of leaving the noise levels to it."""
    if "np.linspace(self.scheduler.config.num_train_timesteps" in source:  # CogView4
        return ["timesteps", "sigmas"]
    return ["sigmas"] if "sigmas = np.linspace" in source else []


def _shift(present: Any, scheduler_class: type) -> dict[str, float]:
    """A flow's shift, under the name that the other scheduler has for it."""
    shift = present.config.get("shift", present.config.get("flow_shift"))
    if shift is None or not _is_flow(present):
        return {}
    names = ("shift", "flow_shift")
    return {name: shift for name in names if takes(scheduler_class, name)}


def _is_flow(scheduler: Any) -> bool:
    flows = scheduler.config.get("prediction_type") == "flow_prediction"
    return flows or "FlowMatch" in type(scheduler).__name__


def _passes_eta(kind: Any) -> bool:
    """Whether the pipeline gives its scheduler a DDIM's η without asking if it takes one."""
    asks = "accepts_eta" in inspect.getsource(kind.__call__)
    return takes(kind.__call__, "eta") and not (asks or hasattr(kind, "prepare_extra_step_kwargs"))


def takes(function: Any, parameter: str) -> bool:
    """Whether a function, or a class, has a parameter of that name."""
    return parameter in inspect.signature(function).parameters
