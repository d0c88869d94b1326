"""ComfyUI without a server, a GPU or a checkpoint, with a miniature as its diffusion model.

ComfyUI is not part of this project: `COMFYUI_PATH` says where a checkout of it is. It needs what
its requirements name, but for torchvision and torchaudio, which are stood in for: no miniature uses
them.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import adaptive_diffusion as ad

__all__ = ["COMFYUI_PATH", "NODES", "Miniature", "load", "loaded", "nodes", "pipeline", "sample"]

COMFYUI_PATH = "COMFYUI_PATH"
NODES = Path(__file__).parents[1] / "integrations" / "comfyui"


def load() -> Any:
    """The package `comfy` of the checkout, on the processor.

    Raises:
        RuntimeError: if `COMFYUI_PATH` is not set.
    """
    path = os.environ.get(COMFYUI_PATH)
    if not path:
        raise RuntimeError(f"{COMFYUI_PATH} must name a folder with ComfyUI's code")
    if "comfy.samplers" in sys.modules:
        return sys.modules["comfy.samplers"]
    if path not in sys.path:
        sys.path.insert(0, path)
    with stood_in():
        from comfy.cli_args import args

        args.cpu = True
        import comfy.sample
        import comfy.samplers
        import comfy.supported_models_base
    return comfy.samplers


@contextmanager
def stood_in() -> Iterator[None]:
    """Lets modules import torchvision and torchaudio, which they make no use of here."""
    names = ("torchvision", "torchvision.transforms", "torchaudio", "torchaudio.transforms")
    mine = [name for name in names if importlib.util.find_spec(name.split(".")[0]) is None]
    sys.modules.update({name: _stand_in(name) for name in mine})
    try:
        yield
    finally:
        for name in mine:
            del sys.modules[name]


class _Empty(types.ModuleType):
    """A module that has everything, and in which nothing works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _stand_in(name: str) -> types.ModuleType:
    module = _Empty(name)
    module.__path__ = []
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return module


def nodes() -> Any:
    """The package of this project's own nodes."""
    name = "adaptive_diffusion_nodes"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, NODES / "__init__.py", submodule_search_locations=[str(NODES)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@functools.cache
def pipeline(name: str) -> Any:
    """The miniature's own pipeline, whose parts are used."""
    return ad.load_miniature(name)


@functools.cache
def loaded(name: str = "emoji") -> Miniature:
    """A miniature that is made once."""
    return Miniature(name)


class _Denoiser(torch.nn.Module):
    """A miniature's denoiser, called as ComfyUI calls its own."""

    dtype = torch.float32

    def __init__(self, denoise: Callable[..., Tensor], **_: Any) -> None:
        super().__init__()
        self._denoise = denoise
        self.calls = 0

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: dict[str, list[Tensor]] | None = None,
        transformer_options: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        options = transformer_options or {}
        if isinstance(x, list):  # packed streams, of which every one is a picture here
            return [self._run(each, t, context, y, control, options) for each in x]
        return self._run(x, t, context, y, control, options)

    def _run(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        y: Tensor | None,
        control: dict[str, list[Tensor]] | None,
        options: dict[str, Any],
    ) -> Tensor:
        hint = control["input"][0] if control else None

        def run(x: Tensor, t: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
            self.calls += 1
            return self._denoise(x if hint is None else x + hint, t, context, y)

        wrapped = options.get("wrappers", {}).get("diffusion_model", {})
        if not wrapped:
            return run(x, t, context, options)
        import comfy.patcher_extension as extension

        return extension.WrapperExecutor.new_class_executor(
            run, self, [each for wrappers in wrapped.values() for each in wrappers]
        ).execute(x, t, context, options)


def _model_class() -> Any:
    """ComfyUI's own class, which also passes on pooled prompts and the shapes of packed latents."""
    import comfy.conds
    import comfy.model_base

    class Model(comfy.model_base.BaseModel):
        def encode_adm(self, **known: Any) -> Tensor | None:
            return known.get("pooled_output")

        def extra_conds(self, **known: Any) -> dict[str, Any]:
            shapes = known.get("latent_shapes") or ()
            packed = {"latent_shapes": comfy.conds.CONDConstant(shapes)} if len(shapes) > 1 else {}
            return super().extra_conds(**known) | packed

    return Model


class Miniature:
    """A miniature as a model of ComfyUI.

    Attributes:
        patcher: its `ModelPatcher`.
        shape: of a latent, without the batch.
        guidance: at which it is best.
    """

    def __init__(self, name: str = "emoji") -> None:
        self._name = name
        self._pipe = pipeline(name)
        load()
        import comfy.latent_formats
        import comfy.model_base
        import comfy.model_patcher
        import comfy.supported_models_base

        self.guidance = ad.miniatures.GUIDANCE.get(name, 1.0)
        kind, denoise, self.shape, settings = _KINDS[name](self._pipe)
        formats = comfy.latent_formats.LatentFormat()
        formats.latent_channels = self.shape[0]
        config = comfy.supported_models_base.BASE({"dtype": torch.float32})
        config.unet_config = {"denoise": denoise}
        config.latent_format = formats
        config.sampling_settings = settings
        config.custom_operations = torch.nn
        model = _model_class()(
            config, getattr(comfy.model_base.ModelType, kind), unet_model=_Denoiser
        )
        cpu = torch.device("cpu")
        self.denoiser = model.diffusion_model
        self.patcher = comfy.model_patcher.ModelPatcher(model, cpu, cpu)

    def conditioning(self, prompt: str) -> list[Any]:
        """A prompt as ComfyUI's nodes pass it."""
        if getattr(self._pipe, "tokenizer", None) is None:
            return [[torch.zeros(1, 1, 1), {}]]
        how = {"prompt": prompt, "device": "cpu", "do_classifier_free_guidance": False}
        if hasattr(self._pipe, "tokenizer_3"):  # Stable Diffusion 3's three texts
            how |= {"prompt_2": None, "prompt_3": None, **ad.miniatures.ARGUMENTS[self._name]}
            states, _, pooled, _ = self._pipe.encode_prompt(**how)
            return [[states, {"pooled_output": pooled}]]
        return [[self._pipe.encode_prompt(num_images_per_prompt=1, **how)[0], {}]]

    def pixels(self, latent: Tensor) -> Tensor:
        """Decoded pictures, from -1 to 1."""
        vae = getattr(self._pipe, "vae", None)
        if vae is None:
            return latent
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        with torch.no_grad():
            return vae.decode(latent / vae.config.scaling_factor + shift).sample


def _emoji(pipe: Any) -> tuple[str, Callable[..., Tensor], tuple[int, ...], dict[str, Any]]:
    def denoise(x: Tensor, t: Tensor, context: Tensor, _: Any) -> Tensor:
        return pipe.unet(x, t, context).sample

    return "V_PREDICTION", denoise, (8, 8, 8), {"linear_start": 0.00085, "linear_end": 0.02}


def _digits(pipe: Any) -> tuple[str, Callable[..., Tensor], tuple[int, ...], dict[str, Any]]:
    def denoise(x: Tensor, t: Tensor, context: Tensor, _: Any) -> Tensor:
        return pipe.unet(x, t).sample

    settings = {"beta_schedule": "sqrt_linear", "linear_start": 0.0001, "linear_end": 0.02}
    return "EPS", denoise, (1, 8, 8), settings


def _emoji_dit(pipe: Any) -> tuple[str, Callable[..., Tensor], tuple[int, ...], dict[str, Any]]:
    sizes = torch.tensor([[32, 32]])

    def denoise(x: Tensor, t: Tensor, context: Tensor, _: Any) -> Tensor:
        rows = sizes.repeat(len(x), 1)
        return pipe.transformer(
            x, context, t, rows, rows, torch.zeros_like(rows), return_dict=False
        )[0]

    return "FLOW", denoise, (8, 8, 8), {"shift": 1.0}


def _scenes(pipe: Any) -> tuple[str, Callable[..., Tensor], tuple[int, ...], dict[str, Any]]:
    def denoise(x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        return pipe.transformer(x, context, pooled, t).sample

    return "FLOW", denoise, (128, 6, 6), {"shift": pipe.scheduler.config.shift}


_KINDS = {"emoji": _emoji, "digits": _digits, "emoji-dit": _emoji_dit, "scenes": _scenes}


def sample(
    patcher: Any,
    miniature: Miniature,
    sampler: str,
    *,
    prompt: str = "",
    seeds: Sequence[int] = (0,),
    steps: int = 50,
    scheduler: str = "normal",
    guidance: float | None = None,
    latent: Any = None,
    mask: Tensor | None = None,
    positive: list[Any] | None = None,
    **options: Any,
) -> Any:
    """Latents of one batch, by ComfyUI's own sampling: what its node KSampler calls.

    Args:
        prompt: unless `positive` is given, a conditioning as ComfyUI's nodes make it.
        seeds: of the batch's samples.
        latent: where the samples begin, packed ones too; empty by default.
    """
    import comfy.sample

    latent = torch.zeros(len(seeds), *miniature.shape) if latent is None else latent
    if latent.is_nested:
        noise = comfy.sample.prepare_noise(latent, seeds[0])
    else:
        noise = torch.cat(
            [
                torch.randn(1, *latent.shape[1:], generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )
    with torch.no_grad():
        return comfy.sample.sample(
            patcher,
            noise,
            steps,
            miniature.guidance if guidance is None else guidance,
            sampler,
            scheduler,
            miniature.conditioning(prompt) if positive is None else positive,
            miniature.conditioning(""),
            latent,
            noise_mask=mask,
            seed=seeds[0],
            disable_pbar=True,
            **options,
        )
