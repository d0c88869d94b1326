"""A diffusers scheduler as a solver: its noise levels, and its steps that can be taken again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.containers import version_of
from adaptive_diffusion.adapters.diffusers.memory import Memory, Snapshot
from adaptive_diffusion.adapters.diffusers.randomness import (
    Source,
    default_source,
    is_source,
    source_of,
    standing_at,
)
from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS, NoiseSchedule
from adaptive_diffusion.trajectory.probe import number

__all__ = ["SchedulerStep", "noise_schedule", "position_of", "sample_of"]


def noise_schedule(scheduler: Any) -> NoiseSchedule:
    """Coordinates, gains and clean-sample coefficients of all of the scheduler's timesteps.

    A scheduler that shows no noise levels gets a uniform schedule.
    """
    timesteps = timesteps_of(scheduler)
    prediction = setting_of(scheduler, "prediction_type", "flow_prediction")
    levels = _levels(scheduler, timesteps, prediction)
    preconditioned = setting_of(scheduler, "sigma_data") is not None  # scaled by the level
    if levels is None or prediction not in PREDICTIONS or preconditioned:
        return NoiseSchedule.uniform(len(timesteps))
    return NoiseSchedule.from_levels(*levels, prediction)


def timesteps_of(scheduler: Any) -> Tensor:
    """The scheduler's timesteps on the CPU; they may be a list."""
    return torch.as_tensor(scheduler.timesteps).cpu().flatten()


def setting_of(scheduler: Any, name: str, default: Any = None) -> Any:
    """An entry of the scheduler's configuration, which may be a mapping, an object or missing."""
    config = getattr(scheduler, "config", None)
    if config is None:
        return default if name != "prediction_type" else "unknown"
    found = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    return default if found is None else found


def _levels(
    scheduler: Any, timesteps: Tensor, prediction: str
) -> tuple[list[float], list[float]] | None:
    steps, sigmas = len(timesteps), getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, Tensor) and len(sigmas) == steps + 1:
        levels = sigmas.tolist()  # double precision, which not every device has
        if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # samples are variance preserving
            doubles = torch.tensor(levels, dtype=torch.float64)
            pairs = [scheduler._sigma_to_alpha_sigma_t(sigma) for sigma in doubles]
            return [float(alpha) for alpha, _ in pairs], [float(sigma) for _, sigma in pairs]
        alphas = [1 - level if prediction == "flow_prediction" else 1.0 for level in levels]
        return alphas, levels
    cumulative = getattr(scheduler, "alphas_cumprod", None)
    if isinstance(cumulative, Tensor) and not timesteps.is_floating_point():
        final = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
        shares = [*cumulative.cpu()[timesteps].tolist(), final]
        return [math.sqrt(share) for share in shares], [math.sqrt(1 - share) for share in shares]
    return None


def position_of(timestep: Tensor | float, scheduler: Any) -> int:
    """Where `timestep` stands in the scheduler's timesteps; 0 if it is none of them."""
    matches = (timesteps_of(scheduler) == number(timestep)).nonzero().flatten().tolist()
    # of two equal timesteps (second-order schedulers have them), the scheduler knows which is meant
    begin = getattr(scheduler, "begin_index", None)
    if begin is not None and begin in matches:
        return int(begin)
    return matches[0] if matches else 0


class SchedulerStep:
    """One call of a scheduler's `step`, with its arguments bound.

    Args:
        scheduler: whose step it is.
        step: `step(scheduler, *args, **kwargs)` takes it.
        memory: what the scheduler remembers; its steps of one loop share one.

    Attributes:
        scheduler: whose step it is.
        returned: what the latest run gave back to the pipeline.
        drew_noise: whether the first run took random numbers.
    """

    def __init__(
        self,
        scheduler: Any,
        step: Callable[..., Any],
        memory: Memory,
        args: tuple[Any, ...],
        kwargs: Any,
    ) -> None:
        self.scheduler = scheduler
        self._step = step
        self._memory = memory
        self._arguments = {**dict(zip(memory.parameters, args, strict=False)), **kwargs}
        self._sources: list[Source] = []
        self._noise_states: list[Any] | None = None
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

    def state(self) -> Snapshot:
        return self._memory.save()

    def restore(self, state: Snapshot) -> None:
        self._memory.restore(state)

    def run(self, output: Tensor, sample: Tensor) -> Tensor:
        if self._memory.writes:  # the pipeline's own tensors are written into as in a plain run
            output = output if output is self.output else output.clone()
            sample = sample if sample is self.sample else sample.clone()
        self._arguments.update(model_output=output, sample=sample)
        if self._noise_states is None:
            self._run_first(sample.device)
        else:
            alone = self._memory.unheard(sample.device)
            with alone, standing_at(self._sources, self._noise_states):
                self._call()
        # a step that is kept to be taken again holds no tensors
        self._arguments.update(model_output=None, sample=None)
        return sample_of(self.returned)

    def _call(self) -> None:
        self.returned = self._step(self.scheduler, **self._arguments)

    def _run_first(self, device: torch.device) -> None:
        sources = self._watched(device)
        self._noise_states = [source.state() for source in sources]
        given = self.output, self.sample
        versions = list(map(version_of, given))
        with self._memory.watched():
            self._call()
        self._memory.writes |= versions != list(map(version_of, given))
        moved = [s.has_moved(state) for s, state in zip(sources, self._noise_states, strict=True)]
        self.drew_noise = any(moved)
        self._sources = list(itertools.compress(sources, moved))
        self._noise_states = list(itertools.compress(self._noise_states, moved))

    def _watched(self, device: torch.device) -> list[Source]:
        given = self._arguments.get("generator")
        generators = given if isinstance(given, (list, tuple)) else [given]
        sources = [source_of(each) for each in generators if is_source(each)]
        if not sources:
            sources = [default_source(device)]
        return [*sources, *self._memory.sources, *self._memory.unnamed_sources(device)]


def sample_of(returned: Any) -> Tensor:
    """The next sample in what a step returns: diffusers' output, a tuple, a mapping or a tensor."""
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping) and "prev_sample" in returned:
        return returned["prev_sample"]
    return returned.prev_sample if hasattr(returned, "prev_sample") else returned[0]
