"""What a tiny pipeline is, and how a test runs one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["TinyPipeline", "batch_size", "outputs", "run", "seeded", "single"]


@dataclass(frozen=True)
class TinyPipeline:
    """A pipeline that a test can make and call.

    Attributes:
        name: Its key among the tiny pipelines; the class's name, unless there are several of it.
        kind: The pipeline class.
        build: Builds a fresh pipeline.
        inputs: Call arguments for a batch of the given size, without generator, number of steps and
            output type (unless the pipeline needs others than `run` gives). Sample ``b`` gets the
            same arguments in every batch size; lists and tensors of the batch's size have an entry
            per sample.
        denoisers: Names of the components that predict noise, velocity or sample.
        side_networks: Names of those that only prepare something for them: ControlNets.
        batches: Whether a batch of two can be asked for.
        whole: Part of the reason that the report gives where a batch's rows can't be told apart.
        strict: Whether every plan is obeyed to the letter. False where calls come that nobody could
            plan for: a second expert takes over, a branch appears.
        exact: Whether every loop has exactly the calls that are asked for. False where a loop's
            length is not what the scheduler and the pipeline say. Of one that is not strict nothing
            is said.
        slow: Whether it is left to ``make test-all``.
    """

    name: str
    kind: type
    build: Callable[[], Any]
    inputs: Callable[[int], dict[str, Any]]
    denoisers: tuple[str, ...]
    side_networks: tuple[str, ...] = ()
    batches: bool = True
    whole: str = ""
    strict: bool = True
    exact: bool = True
    slow: bool = False

    def make(self) -> Any:
        """A fresh pipeline; two calls give equal weights."""
        return seeded(self.build)()


_PER_SAMPLE = (
    "image_embeddings",
    "prompt",
    "prompt_embeds",
    "class_labels",
    "image_embeds",
    "image",
    "padding_mask",
)


def batch_size(inputs: dict[str, Any]) -> int:
    """How many samples a call with these arguments makes."""
    if "batch_size" in inputs:
        return inputs["batch_size"]
    per_sample = next((inputs[name] for name in _PER_SAMPLE if name in inputs), "")
    return len(per_sample) if isinstance(per_sample, list | torch.Tensor) else 1


def single(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    """The arguments of one sample of a batch, as a batch of one.

    ``run(pipe, single(inputs, b), seed=seed + b)`` makes what row ``b`` of
    ``run(pipe, inputs, seed=seed)`` is.
    """
    batch = batch_size(inputs)

    def of_sample(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of_sample(item) for name, item in value.items()}
        per_sample = isinstance(value, list | torch.Tensor) and len(value) == batch
        return value[index : index + 1] if per_sample else value

    alone = of_sample(inputs)
    return alone | {"batch_size": 1} if "batch_size" in inputs else alone


def run(
    pipe: Any, inputs: dict[str, Any], steps: int = 6, seed: int = 0, **overrides: Any
) -> torch.Tensor:
    """Call ``pipe`` and return latents (pixels where it has no latent output), batch in dim 0.

    Each sample has a generator of its own, seeded ``seed``, ``seed + 1``, ..., so that a sample
    does not depend on the batch it is in. ``overrides`` replace call arguments, these included.
    """
    return outputs(pipe, inputs, steps, seed, **overrides)[0]


def outputs(
    pipe: Any, inputs: dict[str, Any], steps: int = 6, seed: int = 0, **overrides: Any
) -> list[torch.Tensor]:
    """All that `run` makes: the video and its sound, say."""
    # some pipelines write into the lists that they are given
    inputs = {
        name: list(value) if isinstance(value, list) else value
        for name, value in (inputs | overrides).items()
    }
    parameters = _parameters(pipe)
    defaults = {
        "generator": [
            torch.Generator("cpu").manual_seed(seed + b) for b in range(batch_size(inputs))
        ],
        "num_inference_steps": steps,
        "output_type": "latent" if _has_latent_output(pipe) else "pt",
        "return_dict": False,
        "output": "latents",  # of a modular pipeline's state
    }
    taken = {name: value for name, value in defaults.items() if name in parameters}
    pipe.set_progress_bar_config(disable=True)
    return tensors_of(pipe(**taken | inputs))


def _parameters(pipe: Any) -> set[str]:
    """What the pipeline can be asked for: arguments of its call, or inputs of its blocks."""
    parameters = {*inspect.signature(pipe.__call__).parameters}
    return parameters | {*pipe.blocks.input_names} if hasattr(pipe, "blocks") else parameters


def _has_latent_output(pipe: Any) -> bool:
    """Whether the pipeline knows the output type "latent": its source then names it."""
    return '"latent"' in inspect.getsource(inspect.unwrap(type(pipe).__call__))


def tensors_of(value: Any) -> list[torch.Tensor]:
    """All pictures, latents, sounds in a pipeline's result, as floating-point tensors."""
    if isinstance(value, torch.Tensor):
        return [value.float()]
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(value).float()]
    if hasattr(value, "getbands"):
        return [torch.from_numpy(np.array(value)).float()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    """Make a builder repeatable, and its models ready for inference.

    Layers that start at zero (last projections, adaptive norms, ControlNet's zero convolutions) get
    small random weights: a denoiser that answers zero would make every test of skipping it pass.
    """

    def make() -> Any:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            pipe = build()
            for component in pipe.components.values():
                if isinstance(component, nn.Module):
                    component.eval().requires_grad_(False)
                    for weight in component.parameters():
                        if weight.ndim > 1 and weight.numel() and not weight.any():
                            weight.normal_(std=weight[0].numel() ** -0.5)
        return pipe

    return make
