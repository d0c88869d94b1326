"""The options that several commands have, each declared once, and the values that they stand for.

Typer needs the names of the options when the command line is built, so this module is imported for
`--help` as well: torch and diffusers are imported inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptive_diffusion.apps.inputs import (
    PolicyName,
    choose_tolerance,
    make_policy,
    parse_size,
    read_prompts,
)
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE

if TYPE_CHECKING:
    from adaptive_diffusion.apps.sampling import Settings
    from adaptive_diffusion.policies import Policy
    from adaptive_diffusion.profile import Profile

__all__ = [
    "CallOptions",
    "Device",
    "Dtype",
    "ModelOptions",
    "Out",
    "PolicyOptions",
    "PromptOptions",
    "Quality",
    "Scheduler",
    "Tolerance",
]

Scheduler = Annotated[
    str | None,
    typer.Option(
        help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-sde, unipc, deis, pndm, lms, "
        "kdpm2, lcm, flow-euler, flow-heun, flow-dpm++ or flow-unipc; the model's own by default."
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Error that a run of skipped steps may cause (error-controlled); 0.02 by default."
    ),
]
Quality = Annotated[
    str | None,
    typer.Option(help="A tolerance by name: faithful, balanced or fast.", metavar="NAME"),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps; a GPU by default if there is one."),
]
Dtype = Annotated[str, typer.Option(help="float32, float16 or bfloat16.")]
Out = Annotated[Path, typer.Option(help="Folder for the files.", metavar="FOLDER")]


@dataclass(frozen=True)
class PromptOptions:
    """What to make: prompts, and how many samples of each."""

    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to draw.", show_default=False)
    ] = None
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", help="A text file with one prompt per line.", metavar="FILE"),
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first sample; each further one adds 1.")
    ] = 0
    count: Annotated[
        int, typer.Option(min=1, help="Samples per prompt, or in all for a model without prompts.")
    ] = 1

    def read(self) -> list[str]:
        """All prompts; raises `ValueError` on an empty one, or a file without any."""
        return read_prompts(self.prompts or [], self.prompts_file)


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what it runs on."""

    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or a miniature: emoji, emoji-dit, digits.")
    ] = "emoji"
    scheduler: Scheduler = None
    device: Device = None
    dtype: Dtype = "float32"

    def load(self) -> Any:
        """The pipeline; raises `ValueError` as `load_pipeline` does."""
        from adaptive_diffusion.apps.loading import load_pipeline

        return load_pipeline(self.model, self.scheduler, self.device, self.dtype)


@dataclass(frozen=True)
class CallOptions:
    """What every call of the pipeline gets."""

    steps: Annotated[int, typer.Option(min=1, help="Steps of the full run.")] = 50
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Guidance scale; the miniature's or the pipeline's own by default."
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(help="512 or 768x512 (width x height); the pipeline's own by default."),
    ] = None
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip; the pipeline's own by default.")
    ] = None

    def settings(self, model: str) -> Settings:
        """What all samples of a model have in common; raises `ValueError` on a bad size."""
        from adaptive_diffusion.apps.sampling import Settings

        guidance = GUIDANCE.get(model) if self.guidance is None else self.guidance
        size = parse_size(self.size)
        return Settings(self.steps, guidance, size, self.frames, ARGUMENTS.get(model, {}))


@dataclass(frozen=True)
class PolicyOptions:
    """Which denoiser calls are skipped."""

    policy: Annotated[
        PolicyName, typer.Option(help="Decides which denoiser calls are skipped.")
    ] = PolicyName.ERROR_CONTROLLED
    tolerance: Tolerance = None
    quality: Quality = None
    profile_file: Annotated[
        Path | None,
        typer.Option("--profile", help="A tolerance that `calibrate` found.", metavar="FILE"),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(help="The paper's threshold (third-order); 0.01 by default."),
    ] = None
    max_skip: Annotated[
        int | None,
        typer.Option(help="Longest run of skipped steps; 6 by default (third-order: 4)."),
    ] = None

    @cached_property
    def profile(self) -> Profile | None:
        """The profile, if one was named; raises `ProfileError` if it can't be read."""
        from adaptive_diffusion.profile import Profile

        return None if self.profile_file is None else Profile.load(self.profile_file)

    def make(self, own_tolerance: float | None = None) -> Policy | None:
        """The policy, with another tolerance if one is given; None is the full run.

        Raises `ValueError` on options that contradict each other.
        """
        common = choose_tolerance(self.tolerance, self.quality, self.profile)
        tolerance = common if own_tolerance is None else own_tolerance
        return make_policy(self.policy, tolerance, self.threshold, self.max_skip)

    def misfits(self, pipe: Any, steps: int) -> list[str]:
        """In what pipeline and steps differ from those that the profile was made with."""
        return [] if self.profile is None else self.profile.differences(pipe, steps)
