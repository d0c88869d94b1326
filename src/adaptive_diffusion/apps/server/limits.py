"""How much one server, and one request to it, may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds that the operator sets.

    Attributes:
        concurrency: pictures that are made at the same time.
        queue: pictures that may wait for their turn; more are refused.
        images: pictures of one request.
        steps: of one picture.
        size: pixels of a picture's longer side.
        work: most pixels times steps of a picture, in pictures of the model's own size with the
            most steps.
        prompt: characters.
        seconds: from a request's arrival to its answer.
        retry_seconds: how long the work of a client that has gone is kept, in case it asks again.
        rows: of one denoiser call for several requests.
        body_bytes: of a request, with its uploaded pictures.
        body_seconds: for a request's body to arrive.
        upload_pixels: of an uploaded picture, before it is scaled.

    Raises:
        ValueError: if one of them is less than one.
    """

    concurrency: int = 8
    queue: int = 64
    images: int = 10
    steps: int = 150
    size: int = 1024
    work: float = 4.0
    prompt: int = 4000
    seconds: float = 300.0
    retry_seconds: float = 5.0
    rows: int = 32
    body_bytes: int = 20_000_000
    body_seconds: float = 30.0
    upload_pixels: int = 20_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 1:
                raise ValueError(f"{field.name} must be at least 1: nothing could be served")
