"""Calls a pipeline for samples that each have a prompt and a seed of their own."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.api import accelerate
from adaptive_diffusion.apps.media import Medium, media_of
from adaptive_diffusion.policies import Policy

__all__ = ["Batch", "Sample", "Sampler", "Settings", "has_controlnet"]


@dataclass(frozen=True)
class Sample:
    """One picture, clip or sound to make.

    Attributes:
        prompt: None for a model that takes none.
        seed: of its noise.
        arguments: call arguments of its own, such as a class label or a picture to begin with.
    """

    prompt: str | None
    seed: int
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """What to call it in tables and pictures."""
        return self.prompt or f"sample {self.seed}"


@dataclass(frozen=True)
class Settings:
    """What all samples have in common; None leaves a choice to the arguments or the pipeline."""

    steps: int = 50
    guidance: float | None = None
    size: tuple[int, int] | None = None  # width, height
    frames: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    negative_prompt: str | None = None
    control_image: Any = field(default=None, hash=False)


@dataclass(frozen=True)
class Batch:
    """What one call of the pipeline made.

    Attributes:
        made: a picture, clip or sound for each sample; None if they were not decoded.
        masks: for every sample, which steps of the loop called the denoiser.
        seconds: wall-clock time from the first denoiser call to the end of the pipeline's call.
        notes: what the acceleration has to say, such as a batch that it decided as a whole.
    """

    made: list[Medium] | None
    masks: list[list[bool]]
    seconds: float
    notes: tuple[str, ...] = ()


class Sampler:
    """A pipeline with settings; refuses what the pipeline can't take before it is called.

    Args:
        pipe: a diffusers pipeline.
        settings: for all of its calls.

    Raises:
        ValueError: if the pipeline has no such setting.
    """

    def __init__(self, pipe: Any, settings: Settings) -> None:
        self.pipe = pipe
        self.settings = settings
        self._parameters = inspect.signature(type(pipe).__call__).parameters
        self._check("num_inference_steps", "--steps", settings.steps)
        self._check("guidance_scale", "--guidance", settings.guidance)
        self._check("height", "--size", settings.size)
        self._check("num_frames", "--frames", settings.frames)
        self._check("negative_prompt", "--negative-prompt", settings.negative_prompt)
        self._check("generator", "--seed", True)
        self._check_control(settings.control_image is not None)

    def with_arguments(self, **more: Any) -> Sampler:
        """The same, with more arguments for the pipeline's calls."""
        arguments = {**self.settings.arguments, **more}
        return Sampler(self.pipe, replace(self.settings, arguments=arguments))

    @property
    def call_arguments(self) -> dict[str, Any]:
        """The settings as arguments of the pipeline's call."""
        settings = self.settings
        width, height = settings.size or (None, None)
        chosen = {
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "width": width,
            "height": height,
            "num_frames": settings.frames,
            "negative_prompt": settings.negative_prompt,
            self.control_parameter: settings.control_image,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return {**settings.arguments, **given}

    @property
    def device(self) -> torch.device:
        """Where the pipeline runs; offloaded weights may be elsewhere."""
        device: torch.device = getattr(self.pipe, "_execution_device", self.pipe.device)
        return device

    @property
    def tells_steps(self) -> bool:
        """Whether the pipeline takes a `callback_on_step_end`."""
        return "callback_on_step_end" in self._parameters

    @property
    def is_conditional(self) -> bool:
        """Whether the pipeline draws what a prompt says."""
        return "prompt" in self._parameters

    @property
    def times_loop_alone(self) -> bool:
        """Whether `run(decode=False)` leaves the decoding out: pixel models have none, and some
        pipelines always decode."""
        return '"latent"' in inspect.getsource(type(self.pipe).__call__)

    def plan(self, prompts: Sequence[str], count: int, seed: int) -> list[Sample]:
        """The samples to make, `count` for every prompt, with consecutive seeds."""
        name = type(self.pipe).__name__
        if self.is_conditional:
            if not prompts:
                raise ValueError('no prompts: say what to draw, such as "a red apple"')
            wanted: list[str | None] = [prompt for prompt in prompts for _ in range(count)]
        elif "batch_size" in self._parameters:
            if prompts:
                raise ValueError(f"{name} takes no prompts: leave them out and say --count N")
            wanted = [None] * count
        else:
            raise ValueError(f"{name} takes no prompts: call it from Python, after enable(pipe)")
        return [Sample(prompt, seed + index) for index, prompt in enumerate(wanted)]

    def run(
        self,
        samples: Sequence[Sample],
        policy: Policy | None = None,
        *,
        steps: int | None = None,
        decode: bool = True,
        on_step: StepCallback | None = None,
    ) -> Batch:
        """Makes the samples in one call: in full, or accelerated by a policy.

        Every sample has a generator of its own on the CPU, so that it is the same in any batch and
        on any device.

        Raises:
            ValueError: if what is made is no picture, clip or sound, or there was no loop.
        """
        steps = steps or self.settings.steps
        arguments = self._arguments(samples, steps)
        if "output_type" in self._parameters:
            arguments["output_type"] = "np" if decode or not self.times_loop_alone else "latent"
        if policy is None and on_step and self.tells_steps:
            arguments["callback_on_step_end"] = _every_step_computed(on_step, len(samples))
        switch = nullcontext() if policy is None else accelerate(self.pipe, policy, on_step=on_step)
        with switch as run, _seeded(samples[0].seed, self.device):
            with _first_denoiser_call(self.pipe, self._synchronize) as started:
                result = self.pipe(**arguments)
            self._synchronize()
            seconds = time.perf_counter() - started[-1]
            report = None if run is None else run.report
        made = media_of(result, self.pipe) if decode else None
        if report is None:
            return Batch(made, [[True] * self._loop_length(steps) for _ in samples], seconds)
        if not report.steps:
            raise ValueError(f"{type(self.pipe).__name__} ran no denoising loop: {report}")
        masks = report.mask if len(report.mask) == len(samples) else report.mask * len(samples)
        return Batch(made, masks, seconds, tuple(report.notes))

    def _arguments(self, samples: Sequence[Sample], steps: int) -> dict[str, Any]:
        generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
        arguments = self.call_arguments | {"num_inference_steps": steps, "generator": generators}
        if self.settings.negative_prompt is not None:
            arguments["negative_prompt"] = [self.settings.negative_prompt] * len(samples)
        if self.is_conditional:
            arguments["prompt"] = [sample.prompt for sample in samples]
        elif "batch_size" in self._parameters:
            arguments["batch_size"] = len(samples)
        own = {
            name: [sample.arguments[name] for sample in samples] for name in samples[0].arguments
        }
        arguments |= own
        if has_controlnet(type(self.pipe)) and self.control_parameter not in arguments:
            name = type(self.pipe).__name__
            raise ValueError(f"{name} needs a control image: give it as --control-image FILE")
        return arguments

    def _check(self, parameter: str, option: str, value: object) -> None:
        if value is not None and parameter not in self._parameters:
            raise ValueError(f"{type(self.pipe).__name__} has no {parameter}: omit {option}")

    @property
    def control_parameter(self) -> str:
        """What the pipeline calls the picture that its ControlNet goes by."""
        return "control_image" if "control_image" in self._parameters else "image"

    def _check_control(self, has_image: bool) -> None:
        takes_image = has_controlnet(type(self.pipe)) or "control_image" in self._parameters
        if has_image and not takes_image:
            name = type(self.pipe).__name__
            raise ValueError(f"{name} has no ControlNet: omit --control-image or add --controlnet")

    def _loop_length(self, steps: int) -> int:
        """Steps of the last loop: second-order solvers have two for each one asked for."""
        timesteps = getattr(getattr(self.pipe, "scheduler", None), "timesteps", None)
        return steps if timesteps is None else len(timesteps)

    def _synchronize(self) -> None:
        kind = self.device.type
        if kind in ("cuda", "mps", "xpu"):
            getattr(torch, kind).synchronize()


def has_controlnet(kind: type) -> bool:
    """Whether pipelines of this class have a ControlNet, which takes a control image."""
    return "ControlNet" in kind.__name__


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """For what a pipeline draws without the generators that it is given, such as the latents of a
    picture to begin with."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _first_denoiser_call(pipe: Any, synchronize: Callable[[], None]) -> Iterator[list[float]]:
    """Gives a list whose last entry is when the pipeline first called a denoiser."""
    synchronize()
    started = [time.perf_counter()]

    def note(*_: Any) -> None:
        if len(started) == 1:
            synchronize()
            started.append(time.perf_counter())

    undo = [_before_each_call(module, note) for module in denoisers(pipe)]
    try:
        yield started
    finally:
        for each in undo:
            each()


def _before_each_call(module: Any, note: Callable[..., None]) -> Callable[[], None]:
    """Has `note` called before the module; gives what ends that.

    A compiled module gets no hook: a hook is compiled with it, and each new one anew.
    """
    compiled = vars(module).get("_compiled_call_impl")
    if compiled is None:
        remove: Callable[[], None] = module.register_forward_pre_hook(note).remove
        return remove

    def call(*args: Any, **kwargs: Any) -> Any:
        note()
        return compiled(*args, **kwargs)

    module._compiled_call_impl = call
    return lambda: setattr(module, "_compiled_call_impl", compiled)


def _every_step_computed(on_step: StepCallback, samples: int) -> Callable[..., dict[str, Any]]:
    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step([[True] * (step + 1)] * samples)
        return tensors

    return callback
