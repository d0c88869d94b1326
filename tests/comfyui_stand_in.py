"""A small program with ComfyUI's documented hooks around sampling, and nothing else of it.

`Guider.sample` goes through the wrappers "outer_sample" and "sampler_sample", and every prediction
through "predict_noise". A wrapper gets an executor, which goes on, and the arguments of what it
wraps; the executor's `class_obj` is whose method that is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from samplers import Mixture, Sampler
from torch import Tensor


class Executor:
    """Calls the wrappers from the outside to the inside, and the method at last."""

    def __init__(self, method: Callable[..., Any], owner: Any, wrappers: list[Any]) -> None:
        self.class_obj = owner
        self._method = method
        self._wrappers = wrappers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._wrappers:
            return self._method(*args, **kwargs)
        following = Executor(self._method, self.class_obj, self._wrappers[1:])
        return self._wrappers[0](following, *args, **kwargs)


class Sampling:
    """`x = picture + sigma * noise`, or flow matching."""

    def __init__(self, flow: bool = False) -> None:
        self._flow = flow

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, picture: Tensor, max_denoise: bool = False
    ) -> Tensor:
        return sigma * noise + ((1 - sigma) * picture if self._flow else picture)

    def calculate_denoised(self, sigma: Tensor, output: Tensor, x: Tensor) -> Tensor:
        return x - sigma * output

    def percent_to_sigma(self, percent: float) -> float:
        if percent <= 0:
            return 999999999.9
        return 0.0 if percent >= 1 else 15.0 * (1 - percent) ** 4


class Patcher:
    """A model with options, wrappers and attachments."""

    def __init__(self, denoiser: Any = None, flow: bool = False) -> None:
        self.denoiser = denoiser or Mixture()
        self.model_sampling = Sampling(flow)
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, dict[str, list[Any]]] = {}
        self.attachments: dict[str, Any] = {}

    def clone(self) -> Patcher:
        other = Patcher(self.denoiser)
        other.model_sampling = self.model_sampling
        other.model_options = {
            **self.model_options,
            "transformer_options": dict(self.model_options["transformer_options"]),
        }
        other.wrappers = {
            kind: {key: list(each) for key, each in keys.items()}
            for kind, keys in self.wrappers.items()
        }
        other.attachments = dict(self.attachments)
        return other

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind: str, key: str) -> None:
        self.wrappers.get(kind, {}).pop(key, None)

    def set_attachments(self, key: str, attachment: Any) -> None:
        self.attachments[key] = attachment

    def get_attachment(self, key: str) -> Any:
        return self.attachments.get(key)


class KSampler:
    """A sampling function with what the program does around it: noise, and a mask."""

    def __init__(self, function: Sampler) -> None:
        self._function = function

    def sample(
        self,
        guider: Guider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        sampling = guider.inner_model.model_sampling
        calls: list[int] = []

        def model(x: Tensor, sigma: Any, **changed: Any) -> Tensor:
            options = changed.get("model_options", extra_args["model_options"])
            sigma = torch.as_tensor(sigma).reshape(-1).expand(len(x))
            mask = denoise_mask
            if mask is not None:
                if "denoise_mask_function" in options:
                    extra = {"model": guider, "sigmas": sigmas}
                    mask = options["denoise_mask_function"](sigma, mask, extra_options=extra)
                kept = sampling.noise_scaling(sigma[:1], noise, latent_image)
                x = mask * x + (1 - mask) * kept
            output = guider(x, sigma, model_options=options, seed=extra_args["seed"])
            if mask is not None:
                output = mask * output + (1 - mask) * latent_image
            calls.append(1)
            if callback is not None:
                callback(len(calls) - 1, output, x, len(sigmas) - 1)
            return output

        model.extra_args = extra_args  # type: ignore[attr-defined]
        start = sampling.noise_scaling(sigmas[:1], noise, latent_image)
        return self._function(model, start, sigmas)


class Guider:
    """Classifier-free guidance; its second prediction is of the same mixture, shifted."""

    def __init__(self, patcher: Patcher, cfg: float = 1.0) -> None:
        self.inner_model = patcher
        self.model_patcher = patcher
        self.model_options = patcher.model_options
        self.cfg = cfg

    def __call__(
        self, x: Tensor, sigma: Tensor, model_options: Any = None, seed: Any = None
    ) -> Any:
        return self._wrapped("predict_noise", self.predict_noise, self)(
            x, sigma, model_options, seed
        )

    def predict_noise(
        self, x: Tensor, sigma: Tensor, model_options: Any = None, seed: Any = None
    ) -> Tensor:
        output = self.inner_model.denoiser(x.flatten(1), sigma).view_as(x)
        unconditional = output - 0.05 * torch.tanh(x / (1 + sigma.view(-1, *[1] * (x.ndim - 1))))
        output = unconditional + self.cfg * (output - unconditional)
        for function in model_options.get("sampler_post_cfg_function", []):
            output = function({"denoised": output, "uncond_denoised": unconditional})
        return output

    def sample(
        self,
        sampler: Sampler,
        sigmas: Tensor,
        noise: Tensor,
        mask: Tensor | None = None,
        callback: Any = None,
        latent: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        latent = torch.zeros_like(noise) if latent is None else latent
        options = dict(self.model_options)
        options["transformer_options"] = {
            **options["transformer_options"],
            "wrappers": self.model_patcher.wrappers,
        }
        before, self.model_options = self.model_options, options
        try:
            return self._wrapped("outer_sample", self.outer_sample, self)(
                noise, latent, KSampler(sampler), sigmas, mask, callback, True, 0, **kwargs
            )
        finally:
            self.model_options = before

    def outer_sample(
        self,
        noise: Tensor,
        latent: Tensor,
        sampler: KSampler,
        sigmas: Tensor,
        mask: Any,
        callback: Any,
        disable_pbar: bool,
        seed: int,
        latent_shapes: Any = None,
    ) -> Tensor:
        extra_args = {"model_options": dict(self.model_options), "seed": seed}
        return self._wrapped("sampler_sample", sampler.sample, sampler)(
            self, sigmas, extra_args, callback, noise, latent, mask, disable_pbar
        )

    def _wrapped(self, kind: str, method: Callable[..., Any], owner: Any) -> Executor:
        keys = self.model_patcher.wrappers.get(kind, {})
        return Executor(method, owner, [each for wrappers in keys.values() for each in wrappers])


def euler_plus(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """Euler's method that goes on from the clean sample along the unconditional noise."""
    seen: list[Tensor] = []

    def see(args: dict[str, Any]) -> Tensor:
        seen.append(args["uncond_denoised"])
        return args["denoised"]

    options = dict(model.extra_args["model_options"])
    options["sampler_post_cfg_function"] = [*options.get("sampler_post_cfg_function", []), see]
    for sigma, following in itertools.pairwise(levels):
        output = model(x, sigma, model_options=options)
        x = output + (x - seen[-1]) / sigma * following
    return x
