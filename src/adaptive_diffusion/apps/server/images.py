"""Pictures as answers: encoded, with how they were made beside them, and as they come to be."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from adaptive_diffusion.apps.encoding import encode_image
from adaptive_diffusion.apps.server.models import Drawn, Picture
from adaptive_diffusion.apps.server.requests import Generation

__all__ = ["calls", "completed", "described", "encode", "event", "partial", "response"]


def encode(
    image: Image.Image, request: Generation, entries: Mapping[str, str] | None = None
) -> str:
    """The picture's file in base64, with the entries inside."""
    kind = request.output_format
    settings = {} if kind == "png" else {"quality": request.output_compression}
    return base64.b64encode(encode_image(image, kind, entries or {}, **settings)).decode()


def described(picture: Picture, drawn: Drawn) -> dict[str, Any]:
    """How the picture was made: what OpenAI's interface has no word for."""
    report = drawn.report
    return {
        "seed": picture.seed,
        "steps": report.steps,
        "nfe": report.nfe[0],
        "tolerance": getattr(report.policy, "tolerance", None),
        "policy": str(report.policy),
        "notes": drawn.notes,
    }


def response(
    request: Generation, pictures: Sequence[Picture], drawn: list[Drawn], encoded: list[str]
) -> dict[str, Any]:
    """The answer to a request that is not streamed."""
    return {
        "created": int(time.time()),
        "data": [
            {"b64_json": text, **described(picture, made)}
            for picture, made, text in zip(pictures, drawn, encoded, strict=True)
        ],
        "output_format": request.output_format,
        "size": _size(drawn[0].image),
        "background": "opaque",
    }


def calls(drawn: list[Drawn]) -> dict[str, str]:
    """The headers that say how many denoiser calls were made and saved."""
    made = sum(each.report.nfe[0] for each in drawn)
    steps = sum(each.report.steps for each in drawn)
    return {"X-Denoiser-Calls": str(made), "X-Denoiser-Calls-Saved": str(steps - made)}


def partial(
    kind: str, index: int, number: int, request: Generation, preview: Image.Image
) -> dict[str, Any]:
    """The event of a picture's preview; the first has the number 0."""
    return {
        "type": f"{kind}.partial_image",
        "partial_image_index": number,
        **_of_picture(index, request, preview),
    }


def completed(
    kind: str, index: int, request: Generation, picture: Picture, drawn: Drawn
) -> dict[str, Any]:
    """The event of a picture that is done."""
    return {
        "type": f"{kind}.completed",
        **_of_picture(index, request, drawn.image, drawn.entries),
        **described(picture, drawn),
    }


def event(content: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n"


def _of_picture(
    index: int,
    request: Generation,
    image: Image.Image,
    entries: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "index": index,
        "created_at": int(time.time()),
        "b64_json": encode(image, request, entries),
        "output_format": request.output_format,
        "size": _size(image),
        "background": "opaque",
        "quality": request.quality,
    }


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
