"""What acceleration is worth on a GPU: wall clock against denoiser calls, for models of full size.

    python benchmarks/gpu.py --no-compile --out out/gpu/gpu.json

A step's time does not depend on what a model has learned: the denoisers of SD-1.5, SDXL, Flux (dev)
and Wan 2.1 1.3B are made in their published shapes with random weights, without text encoders and
VAE, and called with random embeddings; nothing is downloaded. Plain loops alternate with
accelerated ones, which skip by a fixed mask, by error control, or not at all.

`ratio`, the wall-clock `speedup` over `nfe_reduction` (of denoiser evaluations), should be 0.97 or
more; what is missing is bookkeeping. Three repeats, and warm-ups and profiles of 8 steps, should
keep all models below eight minutes on an H100 without torch.compile (expected, not yet measured).
On a random network, error control shows what its decisions cost, not how many calls it saves.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from torch.profiler import ProfilerActivity, profile

import adaptive_diffusion as ad
from adaptive_diffusion.apps.environment import describe_device, versions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SYNCHRONIZING = ("cudaStreamSynchronize", "aten::item", "aten::_local_scalar_dense")
PARTS = {"vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"}
PARTS |= {"safety_checker", "feature_extractor"}
COLUMNS = {"median_seconds": ".3f", "nfe": "d", "nfe_reduction": ".2f", "speedup": ".2f"}
COLUMNS |= {"ratio": ".3f", "us_per_step": ".0f", "us_per_skipped_step": ".0f"}
COLUMNS |= {"overhead_percent": ".1f", "peak_memory_mib": ".0f"}
PROFILED = ("plain", "every_4th", "error_controlled")
SHORT = 8  # steps of the loops that warm up, of those that are profiled, and at tiny scale


@dataclass(frozen=True)
class Model:
    """A pipeline: the classes of its parts with their settings, and what it is called with."""

    pipeline: str
    denoiser: str
    scheduler: str
    dtype: torch.dtype
    schedule: dict[str, Any]
    config: dict[str, Any]
    embeddings: dict[str, tuple[int, ...]]
    inputs: dict[str, Any]
    steps: int = 50


# fmt: off
BETAS = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
}
MODELS = {
    "sd15": Model(
        "StableDiffusionPipeline", "UNet2DConditionModel", "DDIMScheduler", torch.float16,
        BETAS | {"clip_sample": False, "set_alpha_to_one": False},
        {"cross_attention_dim": 768, "attention_head_dim": 8},
        {"prompt_embeds": (1, 77, 768)}, {"height": 512, "width": 512, "guidance_scale": 7.5}),
    "sdxl": Model(
        "StableDiffusionXLPipeline", "UNet2DConditionModel", "EulerDiscreteScheduler",
        torch.float16, BETAS | {"timestep_spacing": "leading"}, {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
            "use_linear_projection": True, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816},
        {"prompt_embeds": (1, 77, 2048), "pooled_prompt_embeds": (1, 1280)},
        {"height": 1024, "width": 1024, "guidance_scale": 5.0}),
    "flux": Model(
        "FluxPipeline", "FluxTransformer2DModel", "FlowMatchEulerDiscreteScheduler", torch.bfloat16,
        {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}, {
            "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "guidance_embeds": True,
            "num_attention_heads": 24, "attention_head_dim": 128, "axes_dims_rope": (16, 56, 56),
            "joint_attention_dim": 4096, "pooled_projection_dim": 768},
        {"prompt_embeds": (1, 512, 4096), "pooled_prompt_embeds": (1, 768)},
        {"height": 1024, "width": 1024, "guidance_scale": 3.5}, 28),
    "wan": Model(
        "WanPipeline", "WanTransformer3DModel", "UniPCMultistepScheduler", torch.bfloat16,
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}, {
            "num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 30,
            "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960},
        {"prompt_embeds": (1, 512, 4096)},
        {"height": 480, "width": 832, "num_frames": 33, "guidance_scale": 5.0}),
}
TINY_UNET = {
    "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2,
    "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 16,
    "transformer_layers_per_block": 1}
TINY: dict[str, dict[str, Any]] = {  # what the configurations change to
    "sd15": TINY_UNET | {"block_out_channels": (8,) * 4},
    "sdxl": TINY_UNET | {"block_out_channels": (8,) * 3},
    "flux": {
        "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16,
        "axes_dims_rope": (4, 4, 8), "joint_attention_dim": 16, "pooled_projection_dim": 16},
    "wan": {
        "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1,
        "text_dim": 16, "freq_dim": 32, "ffn_dim": 32},
}
# fmt: on


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--out", type=Path, default=Path("out/gpu/gpu.json"))
    arguments = parser.parse_args(words)
    diffusers.logging.set_verbosity_error()
    models: dict[str, Any] = {}
    result = {"device": describe_device(DEVICE), "versions": versions(), "scale": arguments.scale}
    result |= {"repeats": arguments.repeats, "short_steps": SHORT, "models": models}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        model = MODELS[name] if arguments.scale == "full" else tiny(name)
        models[name] = attempt(measure_model, model, arguments.repeats, not arguments.no_compile)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")  # now: a later one may fail
    print(markdown(result))


def tiny(name: str) -> Model:
    model = MODELS[name]
    shapes = {key: (*shape[:-1], 16) for key, shape in model.embeddings.items()}
    inputs = model.inputs | {key: 64 for key in ("height", "width")}
    inputs |= {"num_frames": 5} if "num_frames" in inputs else {}
    config = model.config | TINY[name]
    return replace(model, config=config, embeddings=shapes, inputs=inputs, steps=SHORT)


def attempt(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What the function returns, or the error it fails with, which must not end the others."""
    try:
        return function(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def measure_model(model: Model, repeats: int, compiles: bool) -> dict[str, Any]:
    gc.collect()
    torch.cuda.empty_cache()  # what the model before this one left
    pipe, denoiser = build(model)
    result = {"dtype": str(model.dtype), "steps": model.steps, "inputs": model.inputs}
    result["parameters"] = sum(weight.numel() for weight in denoiser.parameters())
    result["eager"] = attempt(measure, pipe, model, repeats)
    if compiles:
        denoiser.compile()
        result["compiled"] = attempt(measure, pipe, model, repeats)
        torch.compiler.reset()
    return result


def build(model: Model) -> tuple[Any, Any]:
    """The pipeline, with None for all but its denoiser and scheduler; and the denoiser."""
    torch.manual_seed(0)
    torch.set_default_dtype(model.dtype)
    with DEVICE:
        denoiser = getattr(diffusers, model.denoiser)(**model.config).eval().requires_grad_(False)
    torch.set_default_dtype(torch.float32)
    kind = getattr(diffusers, model.pipeline)
    parts = dict.fromkeys(inspect.signature(kind).parameters.keys() & PARTS)
    parts["unet" if "UNet" in model.denoiser else "transformer"] = denoiser
    parts["scheduler"] = getattr(diffusers, model.scheduler)(**model.schedule)
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe, denoiser


def measure(pipe: Any, model: Model, repeats: int) -> dict[str, Any]:
    """All settings in turn, `repeats` times; before and after, short loops of some."""
    short, names = replace(model, steps=SHORT), tuple(settings(SHORT))
    warm_up = {name: run(pipe, short, name)["seconds"] for name in PROFILED}
    rounds = [{name: run(pipe, model, name) for name in names} for _ in range(repeats)]
    plain = [loops["plain"] for loops in rounds]
    waits = {name: synchronizations(pipe, short, name) for name in PROFILED}
    return {
        "warm_up_seconds": warm_up,
        "runs": {name: summary(plain, [r[name] for r in rounds], model.steps) for name in names},
        "synchronizations": waits,
        "extra_synchronizations": {
            name: {event: n - waits["plain"][event] for event, n in waits[name].items()}
            for name in PROFILED[1:]
        },
    }


def settings(steps: int) -> dict[str, ad.Policy | None]:
    return {
        "plain": None,
        "skips_nothing": ad.ErrorControlled(0.0),
        "every_2nd": ad.FixedSchedule([step % 2 == 0 for step in range(steps)]),
        "every_4th": ad.FixedSchedule([step % 4 == 0 for step in range(steps)]),
        "error_controlled": ad.ErrorControlled(0.02),
    }


def run(pipe: Any, model: Model, setting: str) -> dict[str, Any]:
    """One loop: its seconds, denoiser evaluations, peak memory, and whether it stayed finite."""
    inputs, cuda = call_inputs(model), DEVICE.type == "cuda"
    policy = settings(model.steps)[setting]
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    began = time.perf_counter()
    with ad.accelerate(pipe, policy) if policy else nullcontext() as accelerated:
        latents = pipe(**inputs)[0]
    if cuda:
        torch.cuda.synchronize()
    return {
        "seconds": time.perf_counter() - began,
        "nfe": accelerated.report.nfe[0] if accelerated else model.steps,
        "peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
        "finite": bool(latents.isfinite().all()),
    }


def call_inputs(model: Model) -> dict[str, Any]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    inputs = model.inputs | {"num_inference_steps": model.steps, "generator": generator}
    for name, shape in model.embeddings.items():
        for key in (name, f"negative_{name}"):  # Flux, guided by distillation, ignores the negative
            inputs[key] = torch.randn(shape, generator=generator, device=DEVICE).to(model.dtype)
    return inputs | {"output_type": "latent", "return_dict": False}


def synchronizations(pipe: Any, model: Model, setting: str) -> dict[str, int]:
    """How often values are fetched, and the device is waited for, in one loop."""
    cuda = [ProfilerActivity.CUDA] if DEVICE.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiler:
        run(pipe, model, setting)
    with TemporaryDirectory() as folder:  # reading the trace is faster than profiler.events()
        profiler.export_chrome_trace(f"{folder}/trace.json")
        trace = json.loads(Path(folder, "trace.json").read_bytes())
    counts = Counter(event.get("name") for event in trace["traceEvents"])
    return {name: counts[name] for name in SYNCHRONIZING}


def summary(plain: list[dict[str, Any]], runs: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """Speed-ups, and the cost of a step and of a skipped step beside the denoiser calls."""
    seconds, nfe = [run["seconds"] for run in runs], runs[0]["nfe"]
    full, own = median(run["seconds"] for run in plain), median(seconds)
    besides = (own - full * nfe / steps) * 1e6
    return {
        "seconds": seconds,
        "median_seconds": own,
        "nfe": nfe,
        "nfe_reduction": steps / nfe,
        "speedup": full / own,
        "ratio": full / own * nfe / steps,
        "us_per_step": besides / steps,
        "us_per_skipped_step": besides / (steps - nfe) if nfe < steps else None,
        "overhead_percent": 100 * (own - full) / full if nfe == steps else None,
        "peak_memory_mib": runs[-1]["peak_memory_mib"],
        "finite": all(run["finite"] for run in runs),
    }


def markdown(result: dict[str, Any]) -> str:
    """A row for every loop."""
    lines = [" | ".join(["| model | loop", *COLUMNS]) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for name, model in result["models"].items():
        for mode in [key for key in ("error", "eager", "compiled") if key in model]:
            if "runs" not in model[mode]:
                failure = model.get("error") or model[mode]["error"]
                lines.append(f"| {name} {mode} | failed: {failure.splitlines()[0]} |")
                continue
            for setting, row in model[mode]["runs"].items():
                numbers = ("–" if row[k] is None else f"{row[k]:{f}}" for k, f in COLUMNS.items())
                lines.append(" | ".join([f"| {name} {mode} | {setting}", *numbers]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
