"""From names to a pipeline: model, what is added to it, device and number type."""

from __future__ import annotations

import json
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.apps.schedulers import SCHEDULERS, make_scheduler
from adaptive_diffusion.apps.weights import (
    Lora,
    add_controlnet,
    add_loras,
    load_single_file,
    stored_dtype,
)
from adaptive_diffusion.miniatures import FOLDER, miniatures, pipeline_miniatures

__all__ = [
    "DTYPES",
    "OFFLOADS",
    "LoadOptions",
    "check_choices",
    "commit_of",
    "dtype_of",
    "folder_of",
    "load_pipeline",
    "locate",
    "pipeline_class",
    "scheduler_of",
]

DTYPES = ("float32", "float16", "bfloat16")
OFFLOADS = ("model", "sequential")

_LONGEST_REASON = 160  # characters of what the hub's client has to say


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded, and what is added to it; None leaves a choice to the model.

    Attributes:
        scheduler: a name of `schedulers.SCHEDULERS`; the model's own by default.
        device: a torch device; a GPU where there is one, by default.
        dtype: a name of `DTYPES`; by default what the weights are stored in on a GPU, and float32
            on a processor.
        revision: a branch, tag or commit of the hub's repository.
        variant: of the files, such as `fp16`.
        loras: in addition to the weights.
        controlnet: a folder or a hub id.
        compiles: whether torch compiles the denoiser.
        offload: keeps in the GPU's memory what is in use only: a name of `OFFLOADS`.
        safetensors_only: refuses weights in pickles, which can hold any code.
    """

    scheduler: str | None = None
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None
    variant: str | None = None
    loras: tuple[Lora, ...] = ()
    controlnet: str | None = None
    compiles: bool = False
    offload: str | None = None
    safetensors_only: bool = False

    def check(self) -> None:
        """Raises `ValueError`, with what there is, on the name of none of them."""
        check_choices(self.scheduler, self.dtype)
        if self.controlnet is not None:
            is_folder = (Path(self.controlnet).expanduser() / "config.json").is_file()
            if not is_folder and self.controlnet.count("/") != 1:
                raise ValueError(
                    f"no ControlNet {self.controlnet!r}: give its folder or a hub id (owner/name)"
                )
        if self.offload is not None and self.offload not in OFFLOADS:
            raise ValueError(f"no offload {self.offload!r}: choose from {', '.join(OFFLOADS)}")

    def describe(self) -> dict[str, str]:
        """What of it decides the pictures, beside scheduler and number type."""
        loras = ", ".join(map(str, self.loras))
        found = {
            "revision": self.revision,
            "variant": self.variant,
            "lora": loras,
            "controlnet": self.controlnet,
        }
        return {name: value for name, value in found.items() if value}


def load_pipeline(model: str, options: LoadOptions | None = None) -> Any:
    """A diffusers pipeline, ready to be called.

    Args:
        model: a folder, a `.safetensors` file, a miniature's name or a hub id.
        options: how it is loaded.

    Raises:
        ValueError: says which of them was wrong, and what there is. All but the scheduler's fit
            to the model is checked before the model is loaded.
    """
    options = options or LoadOptions()
    options.check()
    place = locate(model)
    if options.revision is not None and isinstance(place, Path):
        raise ValueError(f"--revision goes with a hub id, and {model!r} is here already")
    device = _device(options.device)
    if options.offload is not None and device.type == "cpu":
        raise ValueError("--offload moves weights from and to a GPU, and there is none here")
    pipe = _load(place, options, device)
    if options.scheduler is not None:
        pipe.scheduler = make_scheduler(pipe, options.scheduler)
    _mend(pipe)
    pipe.set_progress_bar_config(disable=True)
    _place(pipe, device, options.offload)
    if options.compiles:
        for denoiser in denoisers(pipe):
            denoiser.compile()
    return pipe


def _load(place: Path | str, options: LoadOptions, device: torch.device) -> Any:
    """The pipeline on the processor, with all that is added to it."""
    _be_quiet()
    if isinstance(place, str):
        place = _download(place, options)
    dtype = _dtype(options, place, device)
    if place.is_file():
        pipe = load_single_file(place, dtype)
    else:
        pipe = _from_folder(place, dtype, options)
    if options.controlnet is not None:
        pipe = add_controlnet(pipe, options.controlnet, dtype)
    add_loras(pipe, options.loras)
    return pipe


def _dtype(options: LoadOptions, place: Path, device: torch.device) -> torch.dtype:
    if options.dtype is not None:
        chosen: torch.dtype = getattr(torch, options.dtype)
        return chosen
    if device.type == "cpu":
        return torch.float32
    return stored_dtype([place] if place.is_file() else _weights(place, options.variant))


def dtype_of(model: str, options: LoadOptions) -> str:
    """The name of the number type that the model will have; a hub's files are downloaded for it.

    Raises:
        ValueError: as `load_pipeline` does.
    """
    options.check()
    device = _device(options.device)
    if options.dtype is None and device.type != "cpu":
        place = locate(model)
        folder = _download(place, options) if isinstance(place, str) else place
        return str(_dtype(options, folder, device)).removeprefix("torch.")
    return options.dtype or "float32"


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """The `.safetensors` files of a pipeline's parts: those of the variant, or of none."""
    parts = [file for part in _index(folder) for file in (folder / part).glob("*.safetensors")]
    # `model.safetensors`, `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`
    return [file for file in parts if _variant_of(file) == variant]


def _variant_of(file: Path) -> str | None:
    _, dot, rest = file.stem.partition(".")
    return rest.partition("-")[0] if dot else None


def _place(pipe: Any, device: torch.device, offload: str | None) -> None:
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


def check_choices(scheduler: str | None, dtype: str | None) -> None:
    """Raises `ValueError`, with what there is, on the name of none of them."""
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise ValueError(f"no scheduler {scheduler!r}: choose from {', '.join(SCHEDULERS)}")
    if dtype is not None and dtype not in DTYPES:
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
    """The folder or single file of a model, or its hub id if that is what the name looks like.

    Raises:
        ValueError: if it is none of both; says what there is.
    """
    at_hand = pipeline_miniatures()
    if model in at_hand:
        return at_hand[model]
    if model in miniatures():
        raise ValueError(
            f"{model} is not a pipeline of diffusers, but a model with a sampling loop of its own: "
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
    if folder.is_file():
        if folder.suffix != ".safetensors":
            raise ValueError(
                f"model file {model!r} is not a .safetensors file: others may hold code, convert it"
            )
        return folder
    if (
        model.endswith((".safetensors", ".ckpt"))
        or model.count("/") != 1
        or model.startswith((".", "/", "~"))
        or model.endswith("/")
    ):
        raise ValueError(
            f"no model {model!r}: give a pipeline's folder, a .safetensors file, a hub id "
            f"(owner/name) or a miniature (at hand: {', '.join(at_hand) or 'none'}; {FOLDER} names "
            "a folder of others)"
        )
    return model


def folder_of(model: str) -> Path:
    """Where a miniature is; of another model, the path that its name may be."""
    return miniatures().get(model, Path(model).expanduser())


def pipeline_class(model: str) -> type | None:
    """The class of a miniature's or a folder's pipeline, without loading it; None if not known."""
    import diffusers

    _be_quiet()
    return getattr(diffusers, str(_index(folder_of(model)).get("_class_name")), None)


def scheduler_of(model: str) -> Any:
    """The scheduler of a miniature or a folder, without loading the rest; None if not known."""
    import diffusers

    folder = folder_of(model)
    entry = _index(folder).get("scheduler")
    kind = getattr(diffusers, str(entry[-1]), None) if isinstance(entry, list) and entry else None
    return None if kind is None else kind.from_pretrained(folder / "scheduler")


def _index(folder: Path) -> dict[str, Any]:
    """What a folder says of its pipeline; nothing if that can't be read."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def commit_of(hub_id: str, revision: str | None = None, file: str = "model_index.json") -> str:
    """The commit that a hub id, or a revision of it, stands for now; offline, the one at hand.

    Raises:
        ValueError: if the hub has no such model.
    """
    from huggingface_hub import hf_hub_download

    try:
        index = hf_hub_download(hub_id, file, revision=revision)
    except (OSError, ValueError) as error:
        raise _not_to_be_had(hub_id, error) from error
    return Path(index).parent.name  # .../snapshots/COMMIT/model_index.json


def _not_to_be_had(model: str, error: Exception) -> ValueError:
    reason = textwrap.shorten(str(error), _LONGEST_REASON, placeholder=" ...")
    return ValueError(f"no folder {model!r} here, and the hub gave no such model: {reason}")


def _be_quiet() -> None:
    """Leaves it to the commands what the terminal shows."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()


def _download(hub_id: str, options: LoadOptions) -> Path:
    """The folder of the hub's files on this machine."""
    import diffusers

    wanted: dict[str, Any] = {"revision": options.revision, "variant": options.variant}
    if options.safetensors_only:
        wanted["use_safetensors"] = True
    try:
        return Path(diffusers.DiffusionPipeline.download(hub_id, **wanted))
    except (OSError, ValueError) as error:
        raise _not_to_be_had(hub_id, error) from error


def _from_folder(folder: Path, dtype: torch.dtype, options: LoadOptions) -> Any:
    import diffusers

    from adaptive_diffusion.miniatures import clean_sample, griffin_lim, patches  # noqa: F401  folders name them

    _refuse_code(folder)
    more: dict[str, Any] = {"use_safetensors": True} if options.safetensors_only else {}
    try:
        with warnings.catch_warnings():  # torch_dtype has a new name, which 0.35 doesn't know
            warnings.simplefilter("ignore", FutureWarning)
            return diffusers.DiffusionPipeline.from_pretrained(
                folder, torch_dtype=dtype, variant=options.variant, local_files_only=True, **more
            )
    except OSError as error:
        raise ValueError(f"model folder {str(folder)!r} can't be loaded: {error}") from error


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
