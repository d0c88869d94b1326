"""`report.json`: a comparison in numbers, in valid JSON.

JSON has neither infinity nor NaN: what is not a number (the SSIM of pictures below 11 pixels) is
null. A sample that is the full run's to the last bit has an infinite PSNR, written
as `"psnr_db": null` with `"identical": true`. Means of PSNR are taken over the samples that differ
(all the others would only raise them); of a clip, a sample's PSNR and SSIM are the means over its
frames, of a sound, they are those of its spectrogram. `nfe_reduction` is the full run's evaluations
over the accelerated run's, `speedup` the same of the seconds; over all samples, of their totals,
where `nfe` is a mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from adaptive_diffusion.apps.choice import policy_settings
from adaptive_diffusion.apps.comparison import Comparison, Result
from adaptive_diffusion.apps.environment import describe_device, versions
from adaptive_diffusion.apps.provenance import mask_text
from adaptive_diffusion.apps.sampling import Sampler

__all__ = ["record", "settings_of", "to_json"]

_SETTINGS = (
    *("model", "added", "scheduler", "steps", "guidance", "size", "frames", "negative_prompt"),
    *("arguments", "policy_text", "dtype"),
)


def record(comparison: Comparison, sampler: Sampler, source: Mapping[str, str]) -> dict[str, Any]:
    """Everything that it takes to judge the comparison, and to repeat it.

    Args:
        comparison: the results.
        sampler: with the settings.
        source: the `model`, and what was added to it, by name.
    """
    pipe, settings = sampler.pipe, sampler.settings
    policy = comparison.accelerated.variant.policy
    assert policy is not None
    chosen = policy_settings(policy)
    return {
        "model": source["model"],
        "added": {name: value for name, value in source.items() if name != "model"},
        "pipeline": type(pipe).__name__,
        "scheduler": type(pipe.scheduler).__name__,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "size": settings.size,
        "frames": settings.frames,
        "negative_prompt": settings.negative_prompt,
        "arguments": {name: str(value) for name, value in settings.arguments.items()},
        "makes": comparison.made[0].kind,
        "policy": re.sub(r"\B([A-Z])", r"-\1", type(policy).__name__).lower(),
        "policy_text": str(policy),
        "tolerance": chosen.get("tolerance"),
        "policy_settings": chosen,
        "seed": comparison.samples[0].seed,
        **_summary(comparison, comparison.accelerated),
        "nfe_full": _mean(comparison.full.nfe),
        "seconds_full": _mean(comparison.full.seconds),
        "timed": "denoising loop" if comparison.times_loop_alone else "whole call",
        "repeats": comparison.repeats,
        "device": describe_device(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "versions": versions(),
        "notes": comparison.notes,
        "samples": [_sample(comparison, index) for index in range(len(comparison.samples))],
        "baselines": [_baseline(comparison, result) for result in comparison.baselines],
    }


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record, what was asked for; raises `KeyError` if it is no such record."""
    wanted = [(sample["prompt"], sample["seed"]) for sample in record["samples"]]
    return {**{name: record[name] for name in _SETTINGS}, "samples": wanted}


def to_json(record: Mapping[str, Any]) -> str:
    """The text of the file; refuses what JSON can't say."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _summary(comparison: Comparison, result: Result) -> dict[str, Any]:
    return {
        "nfe": _mean(result.nfe),
        "nfe_reduction": comparison.nfe_reduction(result),
        "speedup": comparison.speedup(result),
        "psnr_db": _or_null(result.mean_psnr_db),
        "psnr_db_worst": _or_null(min(result.psnr_db)),
        "ssim": _or_null(result.mean_ssim),
        "identical": result.identical,
        "seconds": _mean(result.seconds),
    }


def _sample(comparison: Comparison, index: int) -> dict[str, Any]:
    sample, result = comparison.samples[index], comparison.accelerated
    return {
        "prompt": sample.prompt,
        "seed": sample.seed,
        "nfe": result.nfe[index],
        "nfe_reduction": comparison.nfe_reduction(result, index),
        "speedup": comparison.speedup(result, index),
        "psnr_db": _or_null(result.psnr_db[index]),
        "ssim": _or_null(result.ssim[index]),
        "identical": result.psnr_db[index] == math.inf,
        "seconds": result.seconds[index],
        "seconds_full": comparison.full.seconds[index],
        "mask": mask_text(result.masks[index]),
    }


def _baseline(comparison: Comparison, result: Result) -> dict[str, Any]:
    variant = result.variant
    return {
        "name": variant.name,
        "steps": variant.steps,
        "policy": None if variant.policy is None else str(variant.policy),
        **_summary(comparison, result),
    }


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values)


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
