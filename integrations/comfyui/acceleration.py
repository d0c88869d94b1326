"""The three hooks of a sampling run, and what they do there.

- `outer_sample` lies around a run: its state is made there, and nothing is left of it afterwards.
- `sampler_sample` lies around the sampler: it is probed there, and its result is corrected.
- `predict_noise` lies around each guided prediction: it is made, or stood in for. All that happens
  below (control networks, regional prompts, weight hooks, context windows, compiled models) either
  happens as ever or not at all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion import ErrorControlled, Policy, Report
from adaptive_diffusion.adapters.linear_loop import LinearLoop
from adaptive_diffusion.errors import AdaptiveDiffusionError, NotLinearError
from adaptive_diffusion.numerics.call_schedule import exchange_of
from adaptive_diffusion.trajectory.probe import Probe, StandIn, number, probe
from adaptive_diffusion.trajectory.random_sources import RandomSources

from .settings import Settings, fits

__all__ = ["KEY", "Acceleration"]

KEY = "adaptive_diffusion"

_OTHERS = {
    "easycache": "EasyCache or LazyCache",
    "lazycache": "LazyCache",
    "rel_l1_thresh": "TeaCache",
    "teacache_model": "TeaCache",
}
"""What other caches leave in a model's options, and how they are called."""

_OTHER_NOISE = {
    True: "the profile was measured without noise, and this sampler adds some: "
    "one measured under a scheduler such as dpm++-sde comes closer",
    False: "the profile was measured under noise, and this sampler adds none: "
    "one measured under a scheduler such as euler comes closer",
}

log = logging.getLogger(__name__)


class Acceleration:
    """What is attached to a model: settings, and the report of the last run with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.report: Report | None = None
        self._run: ContextVar[_Run | None] = ContextVar(KEY, default=None)

    def attach(self, model: Any) -> None:
        """Adds the hooks to a model patcher, in place of those of another `Acceleration`."""
        for kind in ("outer_sample", "sampler_sample", "predict_noise"):
            model.remove_wrappers_with_key(kind, KEY)
            model.add_wrapper_with_key(kind, KEY, getattr(self, kind))
        model.set_attachments(KEY, self)

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Around one run."""
        guider = executor.class_obj
        refuse_others(guider.model_options)
        run = _Run(guider, self.settings, kwargs.get("latent_shapes"))
        token = self._run.set(run)
        try:
            return executor(*args, **kwargs)
        finally:
            self._run.reset(token)
            self.report = run.report()
            log.info("Adaptive Diffusion: %s", self.report)

    def sampler_sample(
        self,
        executor: Any,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Around the sampler of one run."""
        run = self._run.get()
        given = (guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask)
        if run is None:
            return executor(*given, disable_pbar, **kwargs)

        def without_model() -> Any:
            # copies, because samplers write into what they are given
            return executor(
                guider,
                sigmas.clone(),
                dict(extra_args),
                None,
                noise.clone(),
                None if latent_image is None else latent_image.clone(),
                None,
                True,
                **kwargs,
            )

        run.prepare(without_model, sigmas, denoise_mask)
        try:
            own = (guider, sigmas, dict(extra_args), *given[3:])
            return run.finish(executor(*own, disable_pbar, **kwargs))
        except NotLinearError as error:
            run.give_up(error)
            return executor(*given, disable_pbar, **kwargs)

    def predict_noise(
        self, executor: Any, x: Tensor, sigma: Tensor, model_options: Any = None, seed: Any = None
    ) -> Any:
        """Around one guided prediction."""
        run = self._run.get()
        if run is None:
            return executor(x, sigma, model_options, seed)
        return run.predict(executor, x, sigma, model_options or {}, seed)


def _forecast_of(sampling: Any) -> str | None:
    """What is forecast: the velocity of a model that predicts it, else the noise (None).

    At equal signal and noise, half of the sample is in a clean one that is made from a velocity.
    """
    one = torch.ones(1, 1, 1, 1)
    share = float(sampling.calculate_denoised(torch.ones(1), 0 * one, one))
    return "v_prediction" if 0.25 < share < 0.75 else None


def refuse_others(model_options: dict[str, Any]) -> None:
    """Raises if another cache skips calls of the same model."""
    options = model_options.get("transformer_options", {})
    found = set(options) | {
        key for wrappers in options.get("wrappers", {}).values() for key in wrappers
    }
    for key, name in _OTHERS.items():
        if key in found:
            raise ValueError(
                f"Adaptive Diffusion and {name} are on the same model, and each would skip what "
                f"the other has already stood in for: take one of the two nodes out"
            )


class _Run:
    """The state of one run."""

    def __init__(self, guider: Any, settings: Settings, shapes: Sequence[Any] | None) -> None:
        self._guider = guider
        self._settings = settings
        packed = shapes is not None and len(shapes) > 1  # one latent alone keeps its own shape
        self._sizes = [math.prod(shape[1:]) for shape in shapes] if packed else None
        self._stand_in: StandIn | None = None
        self._found: Probe | None = None
        self._linear: LinearLoop | None = None
        self._sources = RandomSources()
        self._policy: Policy = ErrorControlled(tolerance=settings.tolerance)
        self._outputs = 1
        self._computed = 0
        self._notes: list[str] = []
        self._sigmas: Tensor | None = None
        self._mask: Tensor | None = None
        self._began = time.perf_counter()

    def prepare(
        self, sampler: Callable[[], Any], sigmas: Tensor, denoise_mask: Tensor | None
    ) -> None:
        """Probes the sampler; if it can't be accelerated, says so in the report."""
        self._sigmas, self._mask = sigmas, denoise_mask
        try:
            self._found = self._probed(sampler)
            levels = [self._level(sigma) for sigma in self._found.times]
            forecast = _forecast_of(self._guider.inner_model.model_sampling)
            self._policy = self._chosen_policy(exchange_of(levels, "sample", forecast)[0])
            parts = 1 if self._sizes is None else len(self._sizes)
            self._linear = LinearLoop(
                self._found, self._policy, levels, "sample", parts=parts, forecast=forecast
            )
        except AdaptiveDiffusionError as error:
            self.give_up(error)

    def _chosen_policy(self, predicted: str) -> Policy:
        """The user's, for the calls that were found; `predicted` is what is forecast."""
        percent_to_sigma = self._guider.inner_model.model_sampling.percent_to_sigma
        begin = float(percent_to_sigma(self._settings.start))
        end = float(percent_to_sigma(self._settings.end))
        inside = [end <= sigma <= begin for sigma in self._found.times]
        steps, guidance = len(self._sigmas) - 1, getattr(self._guider, "cfg", None)
        noisy = any(self._found.noise)
        profile = self._settings.profile(steps, guidance, noisy)
        if profile is not None and not fits(profile, predicted):
            self._notes.append(
                f"the profile is not used: it is of another model than one of {predicted}"
            )
            profile = None
        if profile is not None:
            self._notes += profile.far_from(steps, guidance)
            if profile.measured is not None and profile.noisy != noisy:
                self._notes.append(_OTHER_NOISE[noisy])
        return self._settings.policy(inside, profile)

    def give_up(self, error: Exception) -> None:
        """The sampler is to run in full, with the noise that it would have drawn."""
        self._linear = None
        self._computed = 0
        self._notes = [f"the sampler ran in full: {error}"]
        self._sources.restore()

    def finish(self, result: Any) -> Any:
        """The sampler's result, corrected."""
        if self._linear is None:
            return result
        if len(self._found.times) < self._policy.fewest_steps:
            self._notes.append(
                f"nothing was skipped: {len(self._found.times)} calls are too few for the tolerance"
            )
        self._notes += self._linear.remarks
        return self._joined(self._linear.leave(self._parts(result)))

    def report(self) -> Report:
        """What was computed, skipped and why not."""
        mask = [[True] * self._computed] if self._linear is None else self._linear.mask
        return Report(self._policy, mask, time.perf_counter() - self._began, self._notes)

    def predict(
        self, executor: Any, x: Tensor, sigma: Tensor, options: dict[str, Any], seed: Any
    ) -> Tensor:
        """The guided prediction at `x`, or what the sampler is told in its place."""
        own = self._of_the_sampler(options)
        if self._stand_in is not None:
            self._outputs = max(self._outputs, 2 if own else 1)
            outputs = self._stand_in(x, sigma)
            return self._tell(own, outputs[0], outputs[-1], x, sigma, options)
        self._computed += 1
        if self._linear is None:
            return executor(x, sigma, options, seed)
        return self._answer(executor, x, sigma, options, seed, own)

    def _answer(
        self,
        executor: Any,
        x: Tensor,
        sigma: Tensor,
        options: dict[str, Any],
        seed: Any,
        own: list[Any],
    ) -> Tensor:
        linear, call = self._linear, self._linear.call
        if call >= len(self._found.times) or number(sigma) != self._found.times[call]:
            raise NotLinearError("its calls came at other levels than when it was probed")
        share = self._share(sigma, options)
        shares = None if share is None else self._parts(share.expand_as(x))
        corrected = self._joined(linear.enter(self._parts(x), shares))
        outputs = None
        if any(linear.plan):
            both = self._computed_outputs(executor, corrected, sigma, options, seed)
            outputs = list(zip(*map(self._parts, both[: self._outputs]), strict=True))
        told = [self._joined(parts) for parts in zip(*linear.answer(outputs), strict=True)]
        return self._tell(own, told[0], told[-1], corrected, sigma, options)

    def _computed_outputs(
        self, executor: Any, x: Tensor, sigma: Tensor, options: dict[str, Any], seed: Any
    ) -> list[Tensor]:
        """The guided prediction and the unconditional one, where the sampler asks for it."""
        if self._outputs == 1:
            return [executor(x, sigma, options, seed)]
        unconditional: list[Tensor] = []

        def see(args: dict[str, Any]) -> Tensor:
            unconditional.append(args["uncond_denoised"])
            return args["denoised"]

        after = [*options.get("sampler_post_cfg_function", []), see]
        output = executor(x, sigma, {**options, "sampler_post_cfg_function": after}, seed)
        return [output, unconditional[0]]

    def _tell(
        self,
        own: list[Any],
        output: Tensor,
        unconditional: Tensor,
        x: Tensor,
        sigma: Tensor,
        options: dict[str, Any],
    ) -> Tensor:
        """Gives the sampler its outputs; the unconditional one by the way that it asks for it."""
        for function in own:
            output = function(
                {
                    "denoised": output,
                    "cond_denoised": output,
                    "uncond_denoised": unconditional,
                    "cond_scale": getattr(self._guider, "cfg", 1.0),
                    "sigma": sigma,
                    "input": x,
                    "model": self._guider.inner_model,
                    "model_options": options,
                    "cond": None,
                    "uncond": None,
                }
            )
        return output

    def _of_the_sampler(self, options: dict[str, Any]) -> list[Any]:
        """What the sampler itself has added to be called after guidance."""
        name = "sampler_post_cfg_function"
        known = self._guider.model_options.get(name, [])
        return [each for each in options.get(name, []) if not any(each is other for other in known)]

    def _probed(self, sampler: Callable[[], Any]) -> Probe:
        def run(stand_in: StandIn) -> Any:
            self._stand_in = stand_in
            try:
                return sampler()
            finally:
                self._stand_in = None

        found = probe(run, self._sources)
        return found if self._outputs == 1 else probe(run, self._sources, self._outputs)

    def _level(self, sigma: float) -> tuple[float, float]:
        """Signal and noise, by how the model itself would add noise to a picture of ones."""
        one = torch.ones(1, 1, 1, 1)
        level = torch.full((1,), sigma)
        scale = self._guider.inner_model.model_sampling.noise_scaling
        return float(scale(level, 0 * one, one.clone())), float(scale(level, one.clone(), 0 * one))

    def _share(self, sigma: Tensor, options: dict[str, Any]) -> Tensor | None:
        """How much of each element the sampler makes, the rest being kept of a picture."""
        if self._mask is None or "denoise_mask_function" not in options:
            return self._mask
        extra = {"model": self._guider, "sigmas": self._sigmas}
        return options["denoise_mask_function"](sigma, self._mask, extra_options=extra)

    def _parts(self, tensor: Tensor) -> list[Tensor]:
        """The streams of a packed latent, or the latent itself."""
        return [tensor] if self._sizes is None else list(tensor.split(self._sizes, dim=-1))

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0] if self._sizes is None else torch.cat(list(parts), dim=-1)
