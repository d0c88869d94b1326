"""The options that several commands have, each declared once, and the values that they stand for.

Typer needs the names of the options when the command line is built, so this module is imported for
`--help` as well: torch and diffusers are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptive_diffusion.apps.inputs import (
    PolicyName,
    open_picture,
    parse_size,
    read_prompts,
)
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE

if TYPE_CHECKING:
    from adaptive_diffusion.apps.choice import Choice
    from adaptive_diffusion.apps.loading import LoadOptions
    from adaptive_diffusion.apps.sampling import Settings

__all__ = [
    "CallOptions",
    "Device",
    "LearningOptions",
    "LoadingOptions",
    "ModelOptions",
    "NamedProfiles",
    "Nfe",
    "Out",
    "PolicyOptions",
    "PromptOptions",
    "Quality",
    "TargetPsnr",
    "Tolerance",
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
_PROFILE = (
    "What `calibrate` found: its file; a folder or hub id with published profiles, of which the "
    "nearest to the call is taken; `model` for those published with the model; or `none`"
)
Nfe = Annotated[
    int | None,
    typer.Option(
        help="Exactly so many denoiser calls for every sample; by the profile, or else by the one "
        "published with the model, if there is one.",
        show_default=False,
    ),
]
TargetPsnr = Annotated[
    float | None,
    typer.Option(
        help="The fewest calls that reach this mean PSNR, in dB, by the profile, or else by the "
        "one published with the model."
    ),
]
NamedProfiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help=f"{_PROFILE}. Say whose it is if there are several models. Repeatable.",
        metavar="[MODEL=]SOURCE",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps; a GPU by default if there is one."),
]
Out = Annotated[Path, typer.Option(help="Folder for the files.", metavar="FOLDER")]


@dataclass(frozen=True)
class PromptOptions:
    """What to make: prompts, and how many samples of each."""

    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="What to draw.", metavar="[PROMPT]...", show_default=False),
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
class LoadingOptions:
    """How a model is loaded, and what is added to it."""

    scheduler: Annotated[
        str | None,
        typer.Option(
            help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-sde, unipc, deis, pndm, "
            "lms, kdpm2, lcm, flow-euler, flow-heun, flow-dpm++ or flow-unipc; the model's own by "
            "default."
        ),
    ] = None
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the hub's repository.")
    ] = None
    variant: Annotated[
        str | None, typer.Option(help="Variant of the model's files, such as fp16.")
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA, such as style.safetensors:0.8 (extra lora). Repeatable.",
            metavar="FILE[:SCALE]",
            show_default=False,
        ),
    ] = None
    device: Device = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, float16 or bfloat16; by default the weights' own type on a GPU, and "
            "float32 on a processor."
        ),
    ] = None
    compiles: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser with torch.compile.")
    ] = False

    def options(self) -> LoadOptions:
        """What `load_pipeline` takes; raises `ValueError` on what can be seen to be wrong."""
        from adaptive_diffusion.apps.loading import LoadOptions
        from adaptive_diffusion.apps.weights import Lora

        options = LoadOptions(
            scheduler=self.scheduler,
            device=self.device,
            dtype=self.dtype,
            revision=self.revision,
            variant=self.variant,
            loras=tuple(map(Lora.parse, self.lora or [])),
            compiles=self.compiles,
        )
        options.check()
        return options


@dataclass(frozen=True)
class ModelOptions(LoadingOptions):
    """One model, and how it is loaded."""

    model: Annotated[
        str,
        typer.Option(
            help="A folder, a .safetensors file, a hub id, or a miniature such as emoji, digits or "
            "scenes (`info` lists them)."
        ),
    ] = "emoji"
    controlnet: Annotated[
        str | None,
        typer.Option(help="A ControlNet, which takes a --control-image.", metavar="FOLDER_OR_ID"),
    ] = None
    offload: Annotated[
        str | None,
        typer.Option(
            help="Keep on the GPU only what is in use: model (whole parts) or sequential (layers)."
        ),
    ] = None

    def options(self) -> LoadOptions:
        options = replace(super().options(), controlnet=self.controlnet, offload=self.offload)
        options.check()
        return options

    def load(self) -> Any:
        """The pipeline; raises `ValueError` as `load_pipeline` does."""
        from adaptive_diffusion.apps.loading import load_pipeline

        return load_pipeline(self.model, self.options())


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
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to draw.", show_default=False)
    ] = None
    control_image: Annotated[
        Path | None,
        typer.Option(help="The ControlNet's picture: edges, depth, ...", metavar="FILE"),
    ] = None

    def describe(self) -> dict[str, str]:
        """What can't be told from the settings."""
        return {} if self.control_image is None else {"control_image": str(self.control_image)}

    def settings(self, model: str) -> Settings:
        """What all samples of a model have in common.

        Raises `ValueError` on a size or a control image that can't be read.
        """
        from adaptive_diffusion.apps.sampling import Settings

        guidance = GUIDANCE.get(model) if self.guidance is None else self.guidance
        size = parse_size(self.size)
        return Settings(
            self.steps,
            guidance,
            size,
            self.frames,
            ARGUMENTS.get(model, {}),
            negative_prompt=self.negative_prompt,
            control_image=None if self.control_image is None else open_picture(self.control_image),
        )


@dataclass(frozen=True)
class PolicyOptions:
    """Which denoiser calls are skipped."""

    policy: Annotated[
        PolicyName, typer.Option(help="Decides which denoiser calls are skipped.")
    ] = PolicyName.ERROR_CONTROLLED
    tolerance: Tolerance = None
    quality: Quality = None
    profile: Annotated[
        str | None,
        typer.Option(help=f"{_PROFILE}.", metavar="SOURCE", show_default=False),
    ] = None
    nfe: Nfe = None
    target_psnr: TargetPsnr = None
    threshold: Annotated[
        float | None,
        typer.Option(help="The paper's threshold (third-order); 0.01 by default."),
    ] = None
    max_skip: Annotated[
        int | None,
        typer.Option(help="Longest run of skipped steps; 6 by default (third-order: 4)."),
    ] = None

    def chooser(self, model: ModelOptions) -> Callable[..., Choice]:
        """Gives what the options ask for.

        A tolerance or a number of calls that it is given counts in place of theirs; the profile
        stays what plans are made with.

        It raises `ValueError` on options that contradict each other; this `ProfileError` if a
        profile was named that can't be read.
        """
        from adaptive_diffusion.apps.choice import choose
        from adaptive_diffusion.apps.profiles import Profiles

        given = [] if self.profile is None else [self.profile]
        profiles = Profiles.of_options([model.model], given, model.revision)

        @cache
        def choice(tolerance: float | None = None, nfe: int | None = None) -> Choice:
            how: dict[str, Any] = {
                "tolerance": self.tolerance,
                "quality": self.quality,
                "nfe": self.nfe,
                "target_psnr": self.target_psnr,
            }
            if tolerance is not None or nfe is not None:
                how = {"tolerance": tolerance, "nfe": nfe}
            by_plan = how["nfe"] is not None or how.get("target_psnr") is not None
            by_profile = by_plan or (self.profile is not None and tolerance is None)
            return choose(
                self.policy,
                **how,
                profiles=profiles.of(model.model) if by_profile else None,
                threshold=self.threshold,
                max_skip=self.max_skip,
            )

        return choice


@dataclass(frozen=True)
class LearningOptions(PolicyOptions):
    """The same, where the first samples may teach."""

    learn: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --nfe: so many full runs come first, and teach how the model's outputs go "
            "together. The plan of the others is made from it. Two are enough.",
        ),
    ] = None

    def chooser(self, model: ModelOptions) -> Callable[..., Choice]:
        if self.learn is None:
            return super().chooser(model)
        from adaptive_diffusion.apps.choice import as_typed
        from adaptive_diffusion.arguments import check_together

        names = ("tolerance", "quality", "profile", "nfe", "target_psnr", "learn")
        check_together([name for name in names if getattr(self, name) is not None], as_typed)
        return replace(self, learn=None, profile="none").chooser(model)
