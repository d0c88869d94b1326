"""From names to a pipeline: model, scheduler, device and number type."""

from __future__ import annotations

import inspect
import json
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch

from adaptive_diffusion.miniatures import FOLDER, miniatures, pipeline_miniatures

__all__ = [
    "DTYPES",
    "SCHEDULERS",
    "check_choices",
    "commit_of",
    "load_pipeline",
    "locate",
    "make_scheduler",
    "pipeline_class",
    "takes",
]

DTYPES = ("float32", "float16", "bfloat16")

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


_LONGEST_REASON = 160  # characters of what the hub's client has to say


def load_pipeline(
    model: str,
    scheduler: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    safetensors_only: bool = False,
) -> Any:
    """A diffusers pipeline, ready to be called.

    Args:
        model: a folder, a miniature's name or a hub id.
        scheduler: a name of `SCHEDULERS`; the model's own by default.
        device: a torch device; a GPU where there is one, by default.
        dtype: a name of `DTYPES`.
        revision: a branch, tag or commit of the hub's repository.
        safetensors_only: refuses weights in pickles, which can hold any code.

    Raises:
        ValueError: says which of them was wrong, and what there is. All but the scheduler's fit
            to the model is checked before the model is loaded.
    """
    check_choices(scheduler, dtype)
    place = _device(device)
    options = {"revision": revision} | ({"use_safetensors": True} if safetensors_only else {})
    pipe = _from_pretrained(locate(model), model, getattr(torch, dtype), options)
    if scheduler is not None:
        pipe.scheduler = make_scheduler(pipe, scheduler)
    _mend(pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def check_choices(scheduler: str | None, dtype: str) -> None:
    """Raises `ValueError`, with what there is, on the name of none of them."""
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise ValueError(f"no scheduler {scheduler!r}: choose from {', '.join(SCHEDULERS)}")
    if dtype not in DTYPES:
        raise ValueError(f"no dtype {dtype!r}: choose from {', '.join(DTYPES)}")


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


def locate(model: str) -> Path | str:
    """The folder of a model, or its hub id if that is what the name looks like.

    Raises:
        ValueError: if it is none of both; says what there is.
    """
    at_hand = pipeline_miniatures()
    if model in at_hand:
        return at_hand[model]
    if model in miniatures():
        raise ValueError(
            f"{model} is no pipeline of diffusers, but a model with a sampling loop of its own: "
            f"load_miniature({model!r}) gives it in Python, docs/other-data.md shows what to do"
        )
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
            f"or a miniature (at hand: {', '.join(at_hand) or 'none'}; {FOLDER} names a folder of "
            "others)"
        )
    return model


def pipeline_class(model: str) -> type | None:
    """The class of a miniature's or a folder's pipeline, without loading it; None if not known."""
    import diffusers

    folder = miniatures().get(model, Path(model).expanduser())
    return getattr(diffusers, str(_index(folder).get("_class_name")), None)


def _index(folder: Path) -> dict[str, Any]:
    """What a folder says of its pipeline; nothing if that can't be read."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def commit_of(hub_id: str) -> str:
    """The commit that a hub id stands for now; offline, the one at hand.

    Raises:
        ValueError: if the hub has no such pipeline.
    """
    from huggingface_hub import hf_hub_download

    try:
        index = hf_hub_download(hub_id, "model_index.json")
    except (OSError, ValueError) as error:
        raise _not_to_be_had(hub_id, error) from error
    return Path(index).parent.name  # .../snapshots/COMMIT/model_index.json


def _not_to_be_had(model: str, error: Exception) -> ValueError:
    reason = textwrap.shorten(str(error), _LONGEST_REASON, placeholder=" ...")
    return ValueError(f"no folder {model!r} here, and the hub gave no such model: {reason}")


def _from_pretrained(
    place: Path | str, model: str, dtype: torch.dtype, options: dict[str, Any]
) -> Any:
    import diffusers
    import transformers

    # Folders of miniatures name these.
    from adaptive_diffusion.miniatures import clean_sample, griffin_lim, patches  # noqa: F401

    for library in (diffusers, transformers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    if isinstance(place, Path):
        _refuse_code(place)
        options = {**options, "local_files_only": True}
    try:
        with warnings.catch_warnings():  # torch_dtype has a new name, which 0.35 doesn't know
            warnings.simplefilter("ignore", FutureWarning)
            return diffusers.DiffusionPipeline.from_pretrained(place, torch_dtype=dtype, **options)
    except OSError as error:
        if isinstance(place, Path):
            raise ValueError(f"model folder {model!r} can't be loaded: {error}") from error
        raise _not_to_be_had(model, error) from error


def _refuse_code(folder: Path) -> None:
    """Raises `ValueError` if the model brings code: diffusers before 0.38 runs a folder's unasked.

    Code is what the index calls the pipeline's class by, or a part's, if a file has that name.
    """
    for part, entry in _index(folder).items():
        if not isinstance(entry, list) or not entry:
            continue
        file = Path("" if part == "_class_name" else part) / f"{entry[0]}.py"
        if (folder / file).is_file():
            raise ValueError(
                f"model folder {str(folder)!r} has custom code in {file.as_posix()}, which is not "
                "run: load it yourself with trust_remote_code=True, and give the pipeline to "
                "enable()"
            )


def _mend(pipe: Any) -> None:
    """Puts back what transformers 5 took from CLIP and `clip_skip` still asks for."""
    encoder = getattr(pipe, "text_encoder", None)
    if type(encoder).__name__ == "CLIPTextModel" and not hasattr(encoder, "text_model"):
        object.__setattr__(encoder, "text_model", encoder)  # no submodule: it would contain itself


def make_scheduler(pipe: Any, name: str) -> Any:
    """A scheduler of that name for the pipeline's model.

    Raises:
        ValueError: if it would not solve the model's equation, or the pipeline can't drive it.
    """
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
    if _passes_eta(pipe) and not takes(scheduler_class.step, "eta"):
        raise ValueError(f"{type(pipe).__name__} works with the scheduler ddim only, not {name!r}")
    options = settings | _shift(present, scheduler_class)
    scheduler = scheduler_class.from_config(present.config, **options)
    _check_fit(pipe, present, scheduler, name)
    return scheduler


def _check_fit(pipe: Any, present: Any, scheduler: Any, name: str) -> None:
    """Refuses what would run and make worse pictures, or fail in the midst of the call."""
    reason = None
    source = inspect.getsource(type(pipe))
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
        raise ValueError(f"scheduler {name!r} does not fit {type(pipe).__name__}: {reason}")


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


def _passes_eta(pipe: Any) -> bool:
    """Whether the pipeline gives its scheduler a DDIM's η without asking if it takes one."""
    asks = "accepts_eta" in inspect.getsource(type(pipe).__call__)
    return takes(type(pipe).__call__, "eta") and not (
        asks or hasattr(pipe, "prepare_extra_step_kwargs")
    )


def takes(function: Any, parameter: str) -> bool:
    """Whether a function, or a class, has a parameter of that name."""
    return parameter in inspect.signature(function).parameters
