"""Sampling loops of people's own, at random: the same denoisers, wrapped in `AdaptiveDenoiser`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from adaptive_diffusion import AdaptiveDenoiser, Policy, Report
from random_pipelines.containers import pack, unpack
from random_pipelines.denoiser import CHANNELS, WIDTH, make_denoiser
from random_pipelines.log import Log, Step
from random_pipelines.pipeline import Told
from random_pipelines.recipe import Recipe

__all__ = ["LOOP_FEATURES", "OwnLoop"]

LOOP_FEATURES = (
    "answer",
    "condition",
    "condition_rows",
    "renewed",
    "time",
    "companion",
    "change",
    "batch",
    "form",
    "grad",
    "dtype",
    "steps",
)
"""The fields of a recipe that a loop of one's own can have."""

_SIZE = 3


@dataclass
class OwnLoop:
    """A loop as a recipe says, guided by two calls in every step.

    Attributes:
        has_step: whether the wrapper is told how the loop takes its steps.
    """

    recipe: Recipe
    has_step: bool = False

    def __post_init__(self) -> None:
        self.log = Log()
        self.report: Report | None = None
        self._scheduler = DDIMScheduler(clip_sample=False)
        self._scheduler.set_timesteps(int(self.recipe.steps))

    def run(
        self, seeds: Sequence[int], policy: Policy | None = None, told: Told | None = None
    ) -> Tensor:
        """The finished samples: plain, under a policy, or told which steps to skip."""
        self.log.clear()
        recipe, dtype = self.recipe, self.recipe.latent_dtype
        denoiser = make_denoiser(recipe, self.log)
        ask: Any = denoiser
        adaptive = None
        if policy is not None:
            step = self._step if self.has_step else None
            ask = adaptive = AdaptiveDenoiser(denoiser, policy, step)
            adaptive.start(self._scheduler.timesteps)
        grad = recipe.grad in ("grad mode", "weights want gradients")
        self.kept: dict[int, Tensor] = {}
        self.condition = self._rows(seeds, WIDTH, offset=77).to(dtype)
        if recipe.condition_rows == "per block":
            self.condition = self.condition[:1].clone()
        self.rest: dict[str, Any] = {}
        if recipe.change in ("appears", "vanishes"):
            self.rest["hint"] = None
        if recipe.change == "vanishes":
            self.rest["hint"] = torch.full((len(seeds), WIDTH), 0.8, dtype=dtype)
        self.versions = [0] * len(seeds)
        x = self._rows(seeds, CHANNELS, _SIZE, _SIZE, offset=0).to(dtype)
        with torch.set_grad_enabled(grad), torch.inference_mode(recipe.grad == "inference"):
            for i, t in enumerate(self._scheduler.timesteps):
                self.log.steps.append(Step(begins=i == 0))
                if i == int(recipe.steps) // 2:
                    self._change(denoiser, seeds)
                outputs = [self._ask(ask, branch, i, t, x, told) for branch in (0, 1)]
                output = outputs[0] + 2 * (outputs[1] - outputs[0])
                if adaptive is not None and self.has_step:
                    x = adaptive.step(output, t, x)
                else:
                    x = self._step(output, t, x)
        self.report = None if adaptive is None else adaptive.report()
        return x.detach().clone()

    def _rows(self, seeds: Sequence[int], *shape: int, offset: int) -> Tensor:
        generators = [torch.Generator().manual_seed(offset + seed) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=each) for each in generators])

    def _step(self, output: Tensor, t: Any, x: Tensor) -> Tensor:
        return self._scheduler.step(output, t, x, return_dict=False)[0]

    def _ask(
        self, ask: Any, branch: int, i: int, t: Tensor, x: Tensor, told: Told | None
    ) -> Tensor:
        question = (branch,), tuple(self.versions)
        self.log.steps[-1].questions.append(question)
        self.log.steps[-1].blocks.append(1)
        if self.recipe.renewed == "made anew" or branch not in self.kept:
            self.kept[branch] = (1.0 if branch else -0.5) * self.condition
        elif self.recipe.renewed == "copied in place":
            self.kept[branch].copy_((1.0 if branch else -0.5) * self.condition)
        rest = dict(self.rest)
        if self.recipe.companion == "level":
            rest["level"] = float(t) / 1000
        if self.recipe.companion == "residual":
            rest["residual"] = torch.tanh(x)
        if self.recipe.companion == "step number":
            rest["number"] = i
        if self.recipe.companion == "new dict":
            rest["options"] = {"scale": 1.0, "gate": torch.ones(3)}
        if self.recipe.companion == "new object":
            rest["options"] = object()
        time = {"number": float(t), "per row": t.expand(len(x))}.get(self.recipe.time, t)
        condition = pack(self.recipe.condition, [self.kept[branch]])
        (output,) = unpack(self.recipe.answer, ask(x, time, condition=condition, **rest))
        output = output.clone()  # the denoiser may answer the next call in the same tensor
        if told is not None:
            return told.answer(i, float(t), branch, question, output, list(range(len(x))))
        return output

    def _change(self, denoiser: Any, seeds: Sequence[int]) -> None:
        change = self.recipe.change
        if change == "none":
            return
        concerned = [change != "one sample" or seed % 2 == 1 for seed in seeds]
        if change in ("new tensor", "one sample"):
            factors = torch.where(torch.tensor(concerned), -1.0, 1.0)[: len(self.condition), None]
            self.condition = (factors * self.condition).to(self.condition.dtype)
            self.kept.clear()
        elif change == "in place":
            for kept in [self.condition, *self.kept.values()]:
                kept.mul_(-1)
        elif change == "scalar":
            self.rest["strength"] = -1.0
        elif change == "appears":
            self.rest["hint"] = torch.full((len(seeds), WIDTH), 0.8, dtype=self.condition.dtype)
        elif change == "vanishes":
            self.rest["hint"] = None
        else:
            denoiser.change(change)
        self.versions = [v + c for v, c in zip(self.versions, concerned, strict=True)]
