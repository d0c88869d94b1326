"""What the server sends, as the OpenAPI description says it."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

__all__ = [
    "Health",
    "Images",
    "ModelEntry",
    "ModelList",
    "Root",
    "errors",
    "pictures_or_events",
    "set_description",
]


class MadePicture(BaseModel):
    """One picture, and how it was made."""

    b64_json: str = Field(description="The file, in base64.")
    seed: int
    steps: int = Field(description="Steps of the loop.")
    nfe: int = Field(description="Denoiser evaluations: steps that were computed.")
    tolerance: float | None = Field(description="Null where a plan says what is computed.")
    policy: str = Field(description="What decided which steps are computed.")
    notes: list[str] = Field(description="What the user should know.")


class Images(BaseModel):
    """The answer to a request that is not streamed."""

    created: int
    data: list[MadePicture]
    output_format: Literal["png", "jpeg", "webp"]
    size: str
    background: Literal["opaque"]


class ModelEntry(BaseModel):
    """A model of this server."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelEntry]


class Health(BaseModel):
    """Whether the server serves, and how much it has to do."""

    status: Literal["ok"]
    queued: int
    running: int


class Root(BaseModel):
    """What this server is."""

    name: str
    version: str
    models: list[str]
    docs: str
    openapi: str
    api: str


class ErrorDetails(BaseModel):
    """As OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """The answer to a request that can't be done."""

    error: ErrorDetails


_REASONS = {
    400: "An argument that the server, or this model, does not take.",
    401: "No API key, or another one.",
    404: "No such model, or no such path.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "Too many pictures wait already; Retry-After says when to ask again.",
    500: "The picture could not be made.",
    503: "The server is shutting down.",
    504: "The time limit has passed.",
}

_CALLS = {
    "X-Denoiser-Calls": "Denoiser evaluations of all pictures together.",
    "X-Denoiser-Calls-Saved": "Steps of all pictures that called no denoiser.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of these errors."""
    return {status: {"model": Error, "description": _REASONS[status]} for status in statuses}


def pictures_or_events() -> dict[int | str, dict[str, Any]]:
    """The descriptions of all answers to a request for pictures."""
    headers = {
        name: {"description": text, "schema": {"type": "integer"}} for name, text in _CALLS.items()
    }
    success = {
        "model": Images,
        "description": "The pictures or, with `stream`, events until the last picture is done.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "headers": headers,
    }
    return {200: success, **errors(*_REASONS)}


def set_description(app: FastAPI, summary: str, has_key: bool) -> None:
    """Makes the app describe what it sends: an argument that is wrong is a 400, never a 422."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, summary=summary, routes=app.routes
            )
            for path in found["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            components = found.setdefault("components", {})
            for name in ("HTTPValidationError", "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            if has_key:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                found["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
