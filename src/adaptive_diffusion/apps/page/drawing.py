"""How runs look on the page: pictures of a good size, timelines, figures."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from adaptive_diffusion.apps.closeness import closeness
from adaptive_diffusion.apps.display import decibels
from adaptive_diffusion.apps.encoding import enlarged, to_bytes
from adaptive_diffusion.apps.media import AMPLIFICATION, Medium
from adaptive_diffusion.apps.page.race import View

__all__ = [
    "SMALLEST",
    "amplified_difference",
    "batch_status",
    "fidelity",
    "pixels",
    "status",
    "temporary_file",
]

SMALLEST = 384
"""Pixels that a picture is wide on the page, at least: smaller ones are enlarged, unsmoothed."""


def pixels(image: np.ndarray) -> np.ndarray:
    """An image `(H, W, C)` of floats from 0 to 1 as bytes, large enough to be looked at."""
    return to_bytes(enlarged(image, SMALLEST))


@lru_cache(maxsize=16)  # a finished run is shown again and again until the other is done
def temporary_file(medium: Medium) -> str:
    """The path of a file with the medium; the page copies it and the system clears it away."""
    with tempfile.NamedTemporaryFile(suffix=medium.suffix, delete=False) as file:
        file.write(medium.encode({}))
    return file.name


def amplified_difference(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What is different, made visible."""
    return pixels(np.abs(image - reference) * AMPLIFICATION)


def fidelity(made: Medium, reference: Medium) -> str:
    """The PSNR, to read."""
    return f"PSNR {decibels(closeness(made, reference)[0])}"


def status(view: View, steps: int, *figures: str) -> str:
    """The run's clock, its calls and its timeline, as HTML.

    Args:
        view: what there is to see of the run.
        steps: how many steps it will have, as far as that is known.
        figures: what else there is to say, once it is done.
    """
    lines = [f'<div class="run{" done" if view.done else ""}">']
    calls = " · ".join(
        f"{sum(mask)} of {len(mask)} denoiser calls" if view.done else f"{sum(mask)} denoiser calls"
        for mask in view.masks[:1]
    )
    said = [f"<b>{view.seconds:.2f} s</b>", calls, *map(html.escape, figures)]
    lines.append(f"<p>{' · '.join(part for part in said if part)}</p>")
    lines += [_timeline(mask, steps) for mask in view.masks[:1]]
    return "".join([*lines, "</div>"])


def _timeline(mask: Sequence[bool], steps: int) -> str:
    """A cell per step: dark where the denoiser was called, light where not, empty if to come."""
    kinds = ["computed" if computed else "skipped" for computed in mask]
    kinds += ["to-come"] * (steps - len(mask))
    return f'<div class="timeline">{"".join(f"<i class={kind}></i>" for kind in kinds)}</div>'


def batch_status(view: View, steps: int) -> str:
    """The batch's clock, and a timeline for every sample."""
    calls = [sum(mask) for mask in view.masks]
    said = f" · {sum(calls) / len(calls):.4g} denoiser calls each, on average" if calls else ""
    timelines = "".join(_timeline(mask, steps) for mask in view.masks)
    return f'<div class="run"><p><b>{view.seconds:.2f} s</b>{said}</p>{timelines}</div>'
