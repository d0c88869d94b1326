"""How a sample was made: what its file is called, and what is written into it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.policies import Policy

__all__ = ["file_stem", "how_made", "mask_text"]

_LONGEST_NAME = 40


def how_made(
    sample: Sample, mask: Sequence[bool], policy: Policy | None, sampler: Sampler, model: str
) -> dict[str, str]:
    """The entries of a sample's file."""
    own = {name: str(value) for name, value in sample.arguments.items()}
    return {
        "prompt": sample.prompt or "",
        **own,
        "seed": str(sample.seed),
        "policy": "none" if policy is None else str(policy),
        "mask": mask_text(mask),
        "model": model,
        "scheduler": type(sampler.pipe.scheduler).__name__,
        "steps": str(sampler.settings.steps),
    }


def mask_text(mask: Sequence[bool]) -> str:
    """A mask as a string such as `11101001`: 1 where the denoiser was called."""
    return "".join("1" if computed else "0" for computed in mask)


def file_stem(sample: Sample) -> str:
    """A name from prompt and seed; the seed keeps the samples of one run apart."""
    words = re.sub(r"\W+", "-", sample.prompt or "").strip("-").lower()[:_LONGEST_NAME]
    return f"{words.rstrip('-') or 'sample'}-{sample.seed}"
