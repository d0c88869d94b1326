"""The work: a bounded queue of pictures, and as many threads as pictures are made at once.

Every picture is a job of its own, also those of one request: each advances by itself, and all meet
at the denoiser.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Protocol

from PIL import Image

from adaptive_diffusion.apps.server.errors import (
    ApiError,
    QueueFullError,
    ShuttingDownError,
    TimeLimitError,
)
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.meeting import Meeting
from adaptive_diffusion.apps.server.metrics import Metrics
from adaptive_diffusion.apps.server.models import Drawn, Model, Picture

__all__ = ["Engine", "Job", "Watcher"]

_logger = logging.getLogger(__name__)

_LONGEST_WAIT = 60  # seconds that a client is told to wait before it asks again


class Watcher(Protocol):
    """Is told of a request's pictures, by their index, from the threads that make them."""

    def on_step(self, index: int, steps: int, computed: int) -> None:
        """So many steps are made, and so many of them were computed."""

    def on_preview(self, index: int, preview: Image.Image) -> None:
        """What it looks like by now."""


class Job:
    """One picture on its way.

    Attributes:
        result: the picture, or why there is none.
    """

    def __init__(
        self, model: Model, picture: Picture, index: int, deadline: float, watcher: Watcher | None
    ) -> None:
        self.model = model
        self.picture = picture
        self.result: Future[Drawn]
        self._index = index
        self._deadline = deadline
        self._watcher = watcher
        self._is_cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody waits for the picture any more: its work ends before the next step."""
        self._is_cancelled.set()
        self.result.cancel()

    def proceed(self) -> None:
        """Raises if the work is not to go on."""
        if self._is_cancelled.is_set():
            raise CancelledError
        if time.monotonic() > self._deadline:
            raise TimeLimitError("the time limit has passed: ask for fewer steps or pictures")

    def see(self, mask: list[list[bool]]) -> None:
        """Is told of every step."""
        self.proceed()
        if self._watcher is not None:
            self._watcher.on_step(self._index, len(mask[0]), sum(mask[0]))

    def show(self, preview: Image.Image) -> None:
        """Is given every preview."""
        if self._watcher is not None:
            self._watcher.on_preview(self._index, preview)


class Engine:
    """Makes the pictures that it is given, several at a time.

    Args:
        models: whose denoisers' calls are joined.
        limits: of queue and concurrency.
        metrics: told of all that is done.
    """

    def __init__(self, models: Sequence[Model], limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._meeting = Meeting(
            largest=limits.rows, on_call=lambda requests, rows: metrics.batch.observe(requests)
        )
        for model in models:
            self._meeting.invite(model.pipe)
        self._pool = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="picture")
        self._lock = threading.Lock()
        self._pending = 0  # jobs that wait or run
        self._mean_seconds = 1.0
        self._is_closed = False

    @property
    def queued(self) -> int:
        """Pictures that wait for a thread."""
        return max(0, self._pending - self._limits.concurrency)

    @property
    def running(self) -> int:
        """Pictures in work."""
        return min(self._pending, self._limits.concurrency)

    def submit(
        self,
        model: Model,
        pictures: Sequence[Picture],
        watcher: Watcher | None = None,
    ) -> list[Job]:
        """Takes all pictures of a request, or none.

        Raises:
            QueueFullError: says when to come again.
            ShuttingDownError: after `close`.
        """
        deadline = time.monotonic() + self._limits.seconds
        with self._lock:
            if self._is_closed:
                raise ShuttingDownError("the server is shutting down")
            room = self._limits.concurrency + self._limits.queue - self._pending
            if len(pictures) > room:
                raise QueueFullError(
                    f"{self.queued} pictures wait already, and {len(pictures)} more are too many",
                    self._seconds_until_room(),
                )
            self._count(len(pictures))
            jobs = []
            for index, picture in enumerate(pictures):
                job = Job(model, picture, index, deadline, watcher)
                job.result = self._pool.submit(self._run, job)
                jobs.append(job)
        for job in jobs:  # without the lock, which a job that is done already would want
            job.result.add_done_callback(lambda _: self._leave())
        return jobs

    def close(self) -> None:
        """Takes nothing more, drops what waits, and returns when what runs has ended."""
        with self._lock:
            self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._meeting.close()

    def _run(self, job: Job) -> Drawn:
        began = time.perf_counter()
        end = "failed"
        try:
            with self._meeting.attend():
                job.proceed()
                drawn = job.model.draw(job.picture, job.see, job.show)
            end = "made"
        except CancelledError:
            end = "cancelled"
            raise
        except ApiError:
            end = "refused"
            raise
        except Exception:
            _logger.exception("a picture of %s failed: %s", job.model.name, job.picture)
            raise
        finally:
            self._metrics.pictures.labels(job.model.name, end).inc()
        self._record(job.model.name, drawn, time.perf_counter() - began)
        return drawn

    def _record(self, model: str, drawn: Drawn, seconds: float) -> None:
        steps, nfe = drawn.report.steps, drawn.report.nfe[0]
        self._metrics.nfe.labels(model).inc(nfe)
        self._metrics.nfe_saved.labels(model).inc(steps - nfe)
        self._metrics.picture_seconds.labels(model).observe(seconds)
        with self._lock:
            self._mean_seconds += (seconds - self._mean_seconds) / 10

    def _leave(self) -> None:
        with self._lock:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._pending += more
        self._metrics.queued.set(self.queued)
        self._metrics.running.set(self.running)

    def _seconds_until_room(self) -> int:
        seconds = self._pending / self._limits.concurrency * self._mean_seconds
        return min(_LONGEST_WAIT, max(1, math.ceil(seconds)))
