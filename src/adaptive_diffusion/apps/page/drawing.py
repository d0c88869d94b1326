"""How runs look on the page: pictures of a good size, timelines, figures."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from adaptive_diffusion.apps.closeness import closeness
from adaptive_diffusion.apps.display import decibels
from adaptive_diffusion.apps.encoding import enlarged, to_bytes
from adaptive_diffusion.apps.media import Medium, Picture
from adaptive_diffusion.apps.page.race import View
from adaptive_diffusion.policies import Planned, Policy

__all__ = [
    "SMALLEST",
    "batch_status",
    "cancelled",
    "fidelity",
    "file_with",
    "pictures",
    "pixels",
    "planned_by",
    "status",
    "temporary_file",
    "waiting",
]

SMALLEST = 384
"""Pixels that a picture is wide on the page, at least: smaller ones are enlarged, unsmoothed."""


def pixels(image: np.ndarray) -> np.ndarray:
    """An image `(H, W, C)` of floats from 0 to 1 as bytes, large enough to be looked at."""
    return to_bytes(enlarged(image, SMALLEST))


@lru_cache(maxsize=16)  # a finished run is shown again and again until the other is done
def temporary_file(medium: Medium, entries: tuple[tuple[str, str], ...]) -> str:
    """The path of a file with the medium and its entries; a small picture is enlarged."""
    if isinstance(medium, Picture):
        medium = Picture(enlarged(medium.pixels, SMALLEST))
    return file_with(medium.encode(dict(entries)), medium.suffix)


def file_with(content: bytes, suffix: str) -> str:
    """The path of a new file; the page copies it and the system clears it away."""
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        file.write(content)
    return file.name


def pictures(view: View) -> list[Any]:
    """What is seen of a run's samples: previews, then files that say how they were made."""
    if not view.done:
        return [pixels(medium.still) for medium in view.made or ()]
    return [
        temporary_file(medium, entries) if isinstance(medium, Picture) else pixels(medium.still)
        for medium, entries in zip(view.made or (), view.entries, strict=True)
    ]


def fidelity(made: Medium, reference: Medium) -> str:
    """The PSNR, to read."""
    return f"PSNR {decibels(closeness(made, reference)[0])}"


def planned_by(policy: Policy | None) -> tuple[str, ...]:
    """What a plan was made with, to read; nothing where there was no plan."""
    if not isinstance(policy, Planned):
        return ()
    return ("measured plan",) if policy.loops else ("plan without a profile",)


def waiting(text: str) -> str:
    """That something happens of which there is nothing to see yet: a text and a moving bar."""
    return f'<div class="run"><p>{html.escape(text)}</p><div class="waiting"><i></i></div></div>'


def cancelled() -> str:
    """That nothing comes any more, where nothing has come yet."""
    return '<div class="run"><p>cancelled</p></div>'


def status(view: View, steps: int, *figures: str) -> str:
    """The run's clock, its calls, its timeline and its notes, as HTML.

    Args:
        view: what there is to see of the run.
        steps: how many steps it will have, as far as that is known.
        figures: what else there is to say.
    """
    calls = [
        f"{sum(mask)} of {len(mask)} denoiser calls" if view.done else f"{sum(mask)} denoiser calls"
        for mask in view.masks[:1]
    ]
    return _status(view, view.masks[:1], steps, [*calls, *figures])


def batch_status(view: View, steps: int, figures: Sequence[str] = ()) -> str:
    """The same of a batch, with a timeline for every sample."""
    calls = [sum(mask) for mask in view.masks]
    said = [f"{sum(calls) / len(calls):.4g} denoiser calls each, on average"] if calls else []
    return _status(view, view.masks, steps, [*said, *figures])


def _status(view: View, masks: Sequence[Sequence[bool]], steps: int, figures: Sequence[str]) -> str:
    if not masks and not view.done:
        return cancelled() if view.cancelled else waiting("waiting for the first step")
    said = [f"<b>{view.seconds:.2f} s</b>", *map(html.escape, figures)]
    said += ["cancelled"] if view.cancelled else []
    return "".join(
        [
            f'<div class="run{" done" if view.done else ""}">',
            f"<p>{' · '.join(said)}</p>",
            *(_timeline(mask, steps) for mask in masks),
            *(f'<p class="note">{html.escape(note)}</p>' for note in view.notes),
            "</div>",
        ]
    )


def _timeline(mask: Sequence[bool], steps: int) -> str:
    """A cell per step: dark where the denoiser was called, light where not, empty if to come."""
    kinds = ["computed" if computed else "skipped" for computed in mask]
    kinds += ["to-come"] * (steps - len(mask))
    return f'<div class="timeline">{"".join(f"<i class={kind}></i>" for kind in kinds)}</div>'
