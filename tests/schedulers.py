"""The diffusers schedulers that the tests go through, and small helpers to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from tiny_pipelines import BETAS, TINY_PIPELINES, prompts, run
from torch import Tensor

SchedulerFactory = Callable[[], Any]


def _noise(kind: type, **settings: Any) -> SchedulerFactory:
    return lambda: kind(**BETAS, **settings)


NOISE_SCHEDULERS: dict[str, SchedulerFactory] = {
    "ddim": _noise(diffusers.DDIMScheduler, clip_sample=False, steps_offset=1),
    "ddpm": _noise(diffusers.DDPMScheduler, clip_sample=False),
    "euler": _noise(diffusers.EulerDiscreteScheduler),
    "euler_ancestral": _noise(diffusers.EulerAncestralDiscreteScheduler),
    "heun": _noise(diffusers.HeunDiscreteScheduler),
    "dpmsolver++": _noise(diffusers.DPMSolverMultistepScheduler),
    "sde_dpmsolver++": _noise(
        diffusers.DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++"
    ),
    "unipc": _noise(diffusers.UniPCMultistepScheduler),
    "deis": _noise(diffusers.DEISMultistepScheduler),
    "pndm": _noise(diffusers.PNDMScheduler, skip_prk_steps=True),
    "lms": _noise(diffusers.LMSDiscreteScheduler),
    "kdpm2": _noise(diffusers.KDPM2DiscreteScheduler),
    "lcm": _noise(diffusers.LCMScheduler),
}
"""Schedulers of pipelines that predict noise, as `sd15` does."""

FLOW_SCHEDULERS: dict[str, SchedulerFactory] = {
    "flow_match_euler": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "flow_match_heun": lambda: diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0),
}
"""Schedulers of pipelines that predict a velocity, as `sd3` does."""

SCHEDULERS = NOISE_SCHEDULERS | FLOW_SCHEDULERS


class _DrawsByItself(diffusers.FlowMatchEulerDiscreteScheduler):
    """Heeds no generator, as flow matching's stochastic sampling did until diffusers 0.39."""

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        (moved,) = super().step(model_output, timestep, sample, return_dict=False)
        return (moved + 0.1 * torch.randn_like(sample),)


MORE_SCHEDULERS: dict[str, SchedulerFactory] = {
    "kdpm2_ancestral": _noise(diffusers.KDPM2AncestralDiscreteScheduler),
    "dpmsolver++_3": _noise(diffusers.DPMSolverMultistepScheduler, solver_order=3),
    "dpmsolver_singlestep": _noise(diffusers.DPMSolverSinglestepScheduler),
    "unipc_3": _noise(diffusers.UniPCMultistepScheduler, solver_order=3),
    "sa": _noise(diffusers.SASolverScheduler),
    "tcd": _noise(diffusers.TCDScheduler),
    "pndm_prk": _noise(diffusers.PNDMScheduler),
    "ipndm": diffusers.IPNDMScheduler,
    "unipc_flow": lambda: diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "flow_match_euler_stochastic": lambda: diffusers.FlowMatchEulerDiscreteScheduler(
        stochastic_sampling=True
    ),
    "draws_by_itself": _DrawsByItself,
}
"""More kinds of state to be put back; gone through where a scheduler is stepped by itself."""

STOCHASTIC = frozenset(
    {
        "ddpm",
        "euler_ancestral",
        "sde_dpmsolver++",
        "lcm",
        "kdpm2_ancestral",
        "sa",
        "tcd",
        "flow_match_euler_stochastic",
        "draws_by_itself",
    }
)
"""Those that add fresh noise to the sample."""


def pipeline_with(scheduler: str) -> Any:
    """The tiny pipeline that this scheduler suits, with it."""
    pipe = TINY_PIPELINES["sd3" if scheduler in FLOW_SCHEDULERS else "sd15"].make()
    pipe.scheduler = SCHEDULERS[scheduler]()
    return pipe


def inputs_for(pipe: Any, batch: int, size: int = 16) -> dict[str, Any]:
    """Call arguments for a small picture from `sd15`, `sd3` or one made of their components."""
    inputs: dict[str, Any] = {
        "prompt": prompts(batch),
        "guidance_scale": 5.0,
        "height": size,
        "width": size,
    }
    if hasattr(pipe, "tokenizer_3"):
        inputs["max_sequence_length"] = 24
    return inputs


def generate(pipe: Any, batch: int = 1, steps: int = 8, **overrides: Any) -> Tensor:
    """Small latents from `sd15` or `sd3`; one generator per sample, so batches can be compared."""
    return run(pipe, inputs_for(pipe, batch), steps=steps, **overrides)


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Relative to `b`."""
    return float((a.double() - b.double()).norm() / b.double().norm())


def generators(samples: int, seed: int = 0) -> list[torch.Generator]:
    """One seeded generator per sample."""
    return [torch.Generator().manual_seed(seed + b) for b in range(samples)]


def count_calls(*modules: torch.nn.Module) -> list[int]:
    """A list that grows by the number of rows at every forward call of these modules."""
    rows: list[int] = []

    def hook(_: Any, args: Any, kwargs: Any, __: Any) -> None:
        given = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        rows.append(len(given))

    for module in modules:
        module.register_forward_hook(hook, with_kwargs=True)
    return rows
