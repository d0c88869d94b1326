"""A pipeline of somebody's own, whose parts each test replaces by odd ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import Policy, Trace

__all__ = ["STEPS", "Network", "OwnPipeline", "Plans", "error", "noise"]

STEPS = 12


class Network(nn.Module):
    """A denoiser that is smooth in time; answers in the container that a test asks for."""

    def __init__(self, answer: Callable[[Tensor], Any] = lambda output: output) -> None:
        super().__init__()
        self.answer = answer
        self.scale = 1.0
        self.rows: list[int] = []

    def forward(self, sample: Tensor, t: Tensor | float, shift: Any = 0.0) -> Any:
        self.rows.append(len(sample))
        level = torch.as_tensor(t, dtype=torch.float32) / 1000
        return self.answer(0.3 * sample + self.scale * torch.tanh(sample + level + shift))


class OwnPipeline:
    """Steps a batch with what `ask` makes of the denoiser.

    Attributes:
        ask: how the denoiser is asked for the step's output.
        between: what is done with the sample after every step.
    """

    def __init__(self, unet: Any = None, scheduler: Any = None, **parts: Any) -> None:
        self.unet = Network() if unet is None else unet
        self.scheduler = DDIMScheduler(clip_sample=False) if scheduler is None else scheduler
        self.parts = parts
        self.ask: Callable[[Any, Tensor, Any, int], Any] = lambda unet, x, t, step: unet(x, t)
        self.between: Callable[[Tensor, int], None] = lambda x, step: None

    @property
    def components(self) -> dict[str, Any]:
        return {"unet": self.unet, "scheduler": self.scheduler, **self.parts}

    @torch.no_grad()
    def __call__(
        self, seeds: tuple[int, ...] = (0,), num_inference_steps: int = STEPS, **options: Any
    ) -> Tensor:
        self.scheduler.set_timesteps(num_inference_steps)
        sample = torch.cat([noise(seed) for seed in seeds])
        for step, t in enumerate(self.scheduler.timesteps):
            output = self.ask(self.unet, sample, t, step)
            while not isinstance(output, Tensor):
                output = _first(output)
            sample = self.scheduler.step(output, t, sample, **options)[0]
            self.between(sample, step)
        return sample


def _first(output: Any) -> Any:
    """What a container holds first, or under the name `sample`."""
    if hasattr(output, "sample"):
        return output.sample
    return next(iter(output.values())) if hasattr(output, "keys") else output[0]


class Plans(Policy):
    """Plans that are given, sample by sample; forecasts are plain lines, or reuse."""

    def __init__(self, *plans: tuple[bool, ...], extrapolates: bool = True) -> None:
        self.plans = plans
        self.extrapolates = self.backfill = extrapolates
        self._traces: list[Trace] = []

    def decide(self, trace: Trace) -> bool:
        if not any(trace is each for each in self._traces):  # samples are asked for in their order
            self._traces.append(trace)
        place = next(i for i, each in enumerate(self._traces) if each is trace)
        plan = self.plans[place % len(self.plans)]
        return plan[trace.step % len(plan)]


def noise(seed: int) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def error(pipe: OwnPipeline, plain: Tensor, policy: Policy, **call: Any) -> tuple[float, ad.Report]:
    """How far an accelerated run ends from the plain one, relative to it, and its report."""
    with ad.accelerate(pipe, policy) as run:
        result = pipe(**call)
    assert result.isfinite().all()
    return float((result - plain).norm() / plain.norm()), run.report
