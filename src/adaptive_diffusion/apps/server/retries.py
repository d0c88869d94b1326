"""Requests that come again: a client whose time is up closes the connection and asks once more."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from adaptive_diffusion.apps.server.engine import Job
from adaptive_diffusion.apps.server.models import Picture
from adaptive_diffusion.apps.server.requests import Generation

__all__ = ["Retries", "Work", "request_key"]


@dataclass(frozen=True)
class Work:
    """The pictures of a request, on their way."""

    pictures: Sequence[Picture]
    jobs: Sequence[Job]

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        for job in self.jobs:
            job.cancel()


class Retries:
    """Keeps the work of clients that have gone, for as long as they may come again.

    A retry then gets the pictures that are being made, and starts nothing beside them.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[str, tuple[Work, asyncio.TimerHandle]] = {}

    def keep(self, key: str, work: Work) -> None:
        """Takes over work whose client has gone."""
        self._drop(key)
        timer = asyncio.get_running_loop().call_later(self._seconds, self._drop, key)
        self._kept[key] = work, timer

    def take(self, key: str) -> Work | None:
        """The work of the same request, if its client had gone."""
        work, timer = self._kept.pop(key, (None, None))
        if timer is not None:
            timer.cancel()
        return work

    def _drop(self, key: str) -> None:
        work = self.take(key)
        if work is not None:
            work.cancel()


def request_key(request: Request, body: Generation, files: Mapping[str, bytes]) -> str:
    """What two requests have in common if one is the other's retry: all of it, or the key that the
    client gives."""
    content = hashlib.sha256(request.headers.get("authorization", "").encode("latin-1"))
    content.update(request.url.path.encode())
    given = request.headers.get("idempotency-key")
    content.update((given or body.model_dump_json()).encode())
    for name in sorted(files):
        content.update(hashlib.sha256(files[name]).digest())
    return content.hexdigest()
