"""A diffusers scheduler as a solver: its noise levels, and its steps that can be taken again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS, NoiseSchedule

__all__ = ["SchedulerStep", "noise_schedule", "position_of"]


def noise_schedule(scheduler: Any) -> NoiseSchedule:
    """Coordinates, gains and clean-sample coefficients of all of the scheduler's timesteps.

    A scheduler that shows no noise levels gets a uniform schedule.
    """
    steps = len(scheduler.timesteps)
    prediction = scheduler.config.get("prediction_type", "flow_prediction")
    levels = _levels(scheduler, steps, prediction)
    preconditioned = "sigma_data" in scheduler.config  # its outputs are scaled by the level
    if levels is None or prediction not in PREDICTIONS or preconditioned:
        return NoiseSchedule.uniform(steps)
    return NoiseSchedule.from_levels(*levels, prediction)


def _levels(scheduler: Any, steps: int, prediction: str) -> tuple[list[float], list[float]] | None:
    sigmas = getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, Tensor) and len(sigmas) == steps + 1:
        sigmas = sigmas.double().cpu()
        if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # samples are variance preserving
            pairs = [scheduler._sigma_to_alpha_sigma_t(sigma) for sigma in sigmas]
            return [float(alpha) for alpha, _ in pairs], [float(sigma) for _, sigma in pairs]
        if prediction == "flow_prediction":
            return (1 - sigmas).tolist(), sigmas.tolist()
        return [1.0] * (steps + 1), sigmas.tolist()
    cumulative = getattr(scheduler, "alphas_cumprod", None)
    timesteps = scheduler.timesteps.cpu()
    if isinstance(cumulative, Tensor) and not timesteps.is_floating_point():
        final = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0)).reshape(1)
        cumulative = torch.cat([cumulative.cpu()[timesteps].double(), final.cpu().double()])
        return cumulative.sqrt().tolist(), (1 - cumulative).sqrt().tolist()
    return None


def position_of(timestep: Tensor | float, scheduler: Any) -> int:
    """Where `timestep` stands in the scheduler's timesteps; 0 if it is none of them."""
    first = float(torch.as_tensor(timestep).flatten()[0])
    matches = (scheduler.timesteps.cpu() == first).nonzero().flatten().tolist()
    # of two equal timesteps (second-order schedulers have them), the scheduler knows which is meant
    begin = getattr(scheduler, "begin_index", None)
    if begin is not None and begin in matches:
        return int(begin)
    return matches[0] if matches else 0


@functools.cache
def _parameters(step: Callable[..., Any]) -> tuple[str, ...]:
    """The names of `step`'s parameters after `self`."""
    return tuple(inspect.signature(step).parameters)[1:]


@functools.cache
def _draws_by_itself(step: Callable[..., Any]) -> bool:
    """Whether `step` draws noise, or some of it, without the generator that it is given.

    Flow matching's did, in stochastic sampling, until diffusers 0.39. For other steps the default
    generator is not watched: what another thread draws from it would be taken for the step's noise.
    """
    try:
        return "randn_like(" in inspect.getsource(step)
    except (OSError, TypeError):  # a class without a source file, or compiled code
        return False


class SchedulerStep:
    """One call of a scheduler's `step`, with its arguments bound.

    Attributes:
        returned: what the latest run gave back to the pipeline.
        drew_noise: whether the first run took random numbers.
    """

    def __init__(
        self, scheduler: Any, step: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> None:
        self._scheduler = scheduler
        self._step = step
        self._arguments = {**dict(zip(_parameters(step), args, strict=False)), **kwargs}
        self._noise_states: list[Tensor] | None = None
        self.returned: Any = None
        self.drew_noise = False

    @property
    def output(self) -> Any:
        """The model output to step with: the pipeline's, until the step is run."""
        return self._arguments.get("model_output")

    @property
    def sample(self) -> Any:
        """The sample to step from: the pipeline's, until the step is run."""
        return self._arguments.get("sample")

    @property
    def timestep(self) -> Any:
        """The timestep that the pipeline passed."""
        return self._arguments.get("timestep")

    @property
    def moves_a_sample(self) -> bool:
        """Whether this is a step as diffusion takes it: real numbers, an output for every row."""
        return all(
            isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.ndim > 0
            for tensor in (self.output, self.sample)
        ) and len(self.output) == len(self.sample)

    def state(self) -> dict[str, Any]:
        return _copy(vars(self._scheduler))

    def restore(self, state: dict[str, Any]) -> None:
        vars(self._scheduler).clear()
        vars(self._scheduler).update(_copy(state))

    def run(self, output: Tensor, sample: Tensor) -> Tensor:
        self._arguments.update(model_output=output, sample=sample)
        if self._noise_states is None:
            self._run_first()
        elif self.drew_noise:
            self._run_with_the_same_noise()
        else:
            self._call()
        # a step that is kept to be taken again holds no tensors
        self._arguments.update(model_output=None, sample=None)
        return self.returned[0]

    def _call(self) -> None:
        self.returned = self._step(self._scheduler, **self._arguments)

    def _run_first(self) -> None:
        self._noise_states = [generator.get_state() for generator in self._generators()]
        self._call()
        after = [generator.get_state() for generator in self._generators()]
        self.drew_noise = not all(map(torch.equal, self._noise_states, after))
        if not self.drew_noise:
            self._noise_states = []

    def _run_with_the_same_noise(self) -> None:
        assert self._noise_states is not None
        generators = self._generators()
        present = [generator.get_state() for generator in generators]
        for generator, state in zip(generators, self._noise_states, strict=True):
            generator.set_state(state)
        try:
            self._call()
        finally:
            for generator, state in zip(generators, present, strict=True):
                generator.set_state(state)

    def _generators(self) -> list[torch.Generator]:
        given = self._arguments.get("generator")
        if given is None:
            return [self._default_generator()]
        generators = list(given) if isinstance(given, (list, tuple)) else [given]
        if _draws_by_itself(self._step):
            generators.append(self._default_generator())
        return generators

    def _default_generator(self) -> torch.Generator:
        device = self.sample.device
        if device.type == "cuda":
            torch.cuda.init()
            index = torch.cuda.current_device() if device.index is None else device.index
            return torch.cuda.default_generators[index]
        return torch.default_generator


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Schedulers replace their tensors, but write into their lists of past outputs.

    And into one tensor: PNDM's sum over a Runge-Kutta step. A view may be written to by others: it
    is the sample of a pipeline that puts results where the samples have been.
    """
    copied = {
        name: list(value) if isinstance(value, list) else value for name, value in state.items()
    }
    for name, value in state.items():
        if isinstance(value, Tensor) and (name == "cur_model_output" or value._is_view()):
            copied[name] = value.clone()
    return copied
