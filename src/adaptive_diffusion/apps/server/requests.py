"""What a client may ask for: OpenAI's images interface, and what skipping adds to it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.apps.server.errors import InvalidRequestError
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.policies import ErrorControlled

__all__ = ["Edit", "Generation"]

Quality = Literal["auto", "faithful", "balanced", "fast", "low", "medium", "high", "standard", "hd"]
_OPENAI_QUALITIES = {
    "low": "fast",
    "medium": "balanced",
    "standard": "balanced",
    "high": "faithful",
    "hd": "faithful",
}


class Generation(BaseModel):
    """A request for pictures. An argument that is null is as good as left out."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        description="What to draw; empty for a model that takes no prompt.", max_length=100_000
    )
    model: str | None = Field(None, description="One of GET /v1/models; the first by default.")
    n: int = Field(1, ge=1, description="Pictures; each has its own seed.")
    size: str = Field(
        "auto",
        pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$",
        description="Width x height; the model's own by default.",
    )
    quality: Quality = Field("auto", description="A tolerance by name; auto is the model's.")
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(95, ge=0, le=100, description="Of jpeg and webp.")
    stream: bool = Field(False, description="Send every step as a server-sent event.")
    partial_images: int = Field(0, ge=0, le=3, description="Previews of each streamed picture.")

    steps: int = Field(50, ge=1, description="Ours: steps of the full run.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**53,
        description="Ours: seed of the first picture; each further one adds 1.",
    )
    tolerance: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Ours: error that a run of skips may bring; 0 is a full run.",
    )
    nfe: int | None = Field(
        None,
        ge=2,
        description="Ours: exactly so many denoiser calls, in place of a tolerance.",
    )
    guidance: float | None = Field(
        None, ge=0, le=1000, description="Ours: guidance scale; the model's own by default."
    )
    negative_prompt: str | None = Field(
        None, description="Ours: what not to draw.", max_length=100_000
    )

    user: str | None = Field(None, description="Ignored.")
    background: Literal["auto", "opaque"] = Field("auto", description="Ignored.")
    moderation: Literal["auto", "low"] = Field("auto", description="Ignored.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Ignored.")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_null(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @property
    def width_height(self) -> tuple[int, int] | None:
        """The size asked for."""
        if self.size == "auto":
            return None
        width, height = self.size.split("x")
        return int(width), int(height)

    def choose(self, default: Choice, profiles: Source | None) -> Choice:
        """What nfe, tolerance or quality asks for; a plan is made with one of the profiles."""
        if self.nfe is not None:
            return choose(nfe=self.nfe, profiles=profiles)
        if self.tolerance is not None:
            return Choice(ErrorControlled(self.tolerance))
        if self.quality == "auto":
            return default
        return choose(quality=_OPENAI_QUALITIES.get(self.quality, self.quality))

    def check(self, limits: Limits) -> None:
        """Raises `InvalidRequestError` where the request is beyond a limit or in contradiction."""
        if self.tolerance is not None and self.quality != "auto":
            raise InvalidRequestError("give tolerance or quality, not both", "tolerance")
        if self.nfe is not None:
            self._check_nfe(self.nfe)
        if self.partial_images and not self.stream:
            raise InvalidRequestError("partial_images come with stream=true only", "partial_images")
        width_height = self.width_height or (1, 1)
        for param, value, limit in (
            ("n", self.n, limits.images),
            ("steps", self.steps, limits.steps),
            ("size", max(width_height), limits.size),
            ("prompt", len(self.prompt), limits.prompt),
            ("negative_prompt", len(self.negative_prompt or ""), limits.prompt),
        ):
            if value > limit:
                counted = "characters" if param.endswith("prompt") else "here"
                raise InvalidRequestError(
                    f"{param} may be at most {limit} {counted}, not {value}", param
                )

    def _check_nfe(self, nfe: int) -> None:
        if self.tolerance is not None or self.quality != "auto":
            other = "quality" if self.tolerance is None else "tolerance"
            raise InvalidRequestError(f"give nfe or {other}, not both", "nfe")
        if nfe > self.steps:
            raise InvalidRequestError(
                f"nfe is the number of steps that are computed: at most {self.steps}, not {nfe}",
                "nfe",
            )


class Edit(Generation):
    """The fields of a request for edited pictures, beside the files `image` and `mask`."""

    strength: float | None = Field(
        None, gt=0, le=1, description="Ours: how much may change; 1 is all."
    )
    input_fidelity: Literal["high", "low"] | None = Field(None, description="Ignored.")
