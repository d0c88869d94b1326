"""Runs that go side by side, each on a clock of its own.

Two runs at once would slow each other down, and one after the other can't be watched. So they take
turns: a step at a time, the next step always to the run whose clock shows least. What a run shows
at a time of its clock is then what it would show alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaptive_diffusion.apps.media import Medium, Picture
from adaptive_diffusion.apps.preview import preview
from adaptive_diffusion.apps.provenance import how_made
from adaptive_diffusion.apps.sampling import Batch, Sample, Sampler
from adaptive_diffusion.policies import ErrorControlled, Policy

__all__ = ["CancelledError", "Run", "View", "race"]

_LOOK = 0.2  # seconds from one look at the runs to the next
_PREVIEW = 0.25  # seconds from one preview to the next, at least


class CancelledError(Exception):
    """The run was stopped on the way, because somebody asked for it or asked for another."""


@dataclass(frozen=True)
class View:
    """What there is to see of a run.

    Attributes:
        made: for each sample what it is so far: previews until the run is done; None as long as
            there are none.
        masks: for every sample, which steps called the denoiser so far.
        seconds: what the run's clock shows.
        done: whether what is made is finished.
        cancelled: whether it will never be.
        notes: what the visitor should know of it.
        entries: for each sample, once it is done, what its file says of how it was made.
    """

    made: Sequence[Medium] | None = None
    masks: tuple[tuple[bool, ...], ...] = ()
    seconds: float = 0.0
    done: bool = False
    cancelled: bool = False
    notes: tuple[str, ...] = ()
    entries: tuple[tuple[tuple[str, str], ...], ...] = ()

    @property
    def finished(self) -> Medium | None:
        """What the first sample has become; None before the run is done."""
        return self.made[0] if self.done and self.made else None

    def of_each(self) -> Iterator[tuple[Medium, tuple[bool, ...]]]:
        """What is made, each with its mask: a batch decided as a whole has one for all."""
        made = self.made or ()
        masks = self.masks if len(self.masks) == len(made) else self.masks * len(made)
        return zip(made, masks, strict=True)


class Run:
    """One call of a pipeline, in a thread of its own.

    Args:
        sampler: a pipeline that nobody else calls meanwhile, with its settings.
        samples: what to make.
        policy: None for the full run.
        source: the model and what was added to it, by name.
        notes: what is to be known of it beforehand.
    """

    def __init__(
        self,
        sampler: Sampler,
        samples: Sequence[Sample],
        policy: Policy | None,
        source: Mapping[str, str],
        notes: Sequence[str] = (),
    ) -> None:
        self.view = View(notes=tuple(notes))
        self.clock = 0.0
        self.error: BaseException | None = None
        self._sampler = sampler
        self._samples = samples
        self._policy = policy
        self._source = source
        self._callback = sampler.settings.arguments.get("callback_on_step_end")
        self._turns: _Turns | None = None
        self._resumed = self._previewed = 0.0

    def begin(self, turns: _Turns) -> threading.Thread:
        """Starts the call; its steps wait for their turn."""
        self._turns = turns
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        assert self._turns is not None
        try:
            self._turns.wait(self)
            self._resumed = time.perf_counter()
            batch = self._call()
            self._stop_clock()
            # the steps seen are more exact: image-to-image makes only some of those asked for
            masks = self.view.masks or tuple(map(tuple, batch.masks))
            # what stands in for a full run has nothing to say of skipping
            notes = () if self._policy is None else (*self.view.notes, *batch.notes)
            view = View(batch.made, masks, self.clock, done=True, notes=notes)
            self.view = replace(view, entries=self._entries(view))
        except BaseException as error:  # told to whoever watches the race
            self.error = error
        finally:
            self._turns.leave(self)

    def _entries(self, view: View) -> tuple[tuple[tuple[str, str], ...], ...]:
        return tuple(
            tuple(how_made(sample, *made, self._policy, self._sampler, self._source).items())
            for sample, made in zip(self._samples, view.of_each(), strict=True)
        )

    def _call(self) -> Batch:
        policy = self._policy
        if self._sampler.tells_steps:
            self._sampler = self._sampler.with_arguments(callback_on_step_end=self._after_step)
            return self._sampler.run(
                self._samples, policy, on_step=None if policy is None else self._see_masks
            )
        # without callbacks, only our own steps can be watched: at tolerance 0, they are all made
        return self._sampler.run(
            self._samples, policy or ErrorControlled(tolerance=0), on_step=self._see_masks_and_yield
        )

    def _see_masks(self, masks: list[list[bool]]) -> None:
        self._show(masks=tuple(map(tuple, masks)))

    def _see_masks_and_yield(self, masks: list[list[bool]]) -> None:
        self._see_masks(masks)
        self._yield_turn(lambda: None)

    def _after_step(
        self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if self._callback is not None:
            tensors = self._callback(pipe, step, timestep, tensors)
        if self._policy is None:
            self._see_masks([[True] * (step + 1)] * len(self._samples))
        self._yield_turn(lambda: self._preview(pipe, tensors.get("latents")))
        return tensors

    def _yield_turn(self, between: Callable[[], None]) -> None:
        """Lets others have theirs; what is done `between` is on nobody's clock."""
        assert self._turns is not None
        self._stop_clock()
        between()
        self._turns.wait(self)
        self._resumed = time.perf_counter()

    def _stop_clock(self) -> None:
        self.clock += time.perf_counter() - self._resumed
        self._show(seconds=self.clock)

    def _preview(self, pipe: Any, latents: Any) -> None:
        now = time.perf_counter()
        if now - self._previewed >= _PREVIEW:
            images = preview(pipe, latents)
            if images is not None:
                self._show(made=[Picture(image) for image in images])
            self._previewed = now

    def _show(self, **news: Any) -> None:
        self.view = replace(self.view, **news)


class _Turns:
    """Whose turn it is: the unfinished run's whose clock shows least."""

    def __init__(self, runs: Sequence[Run], cancelled: threading.Event) -> None:
        self._running = list(runs)
        self._cancelled = cancelled
        self._changed = threading.Condition()
        self._holder: Run | None = min(runs, key=lambda run: run.clock)

    def wait(self, run: Run) -> None:
        """Returns when it is the run's turn; raises `CancelledError` once all is cancelled."""
        with self._changed:
            self._pass_on()
            while self._holder is not run and not self._cancelled.is_set():
                self._changed.wait(_LOOK)
        if self._cancelled.is_set():
            raise CancelledError

    def leave(self, run: Run) -> None:
        """The run has ended."""
        with self._changed:
            self._running.remove(run)
            self._pass_on()

    def _pass_on(self) -> None:
        self._holder = min(self._running, key=lambda run: run.clock, default=None)
        self._changed.notify_all()


def race(runs: Sequence[Run], cancelled: threading.Event) -> Iterator[list[View]]:
    """Runs them side by side and shows all, again and again, until all are done or cancelled.

    Raises:
        CancelledError: soon after `cancelled` is set.
    """
    turns = _Turns(runs, cancelled)
    threads = [run.begin(turns) for run in runs]
    try:
        while any(thread.is_alive() for thread in threads):
            threads[0 if threads[0].is_alive() else -1].join(_LOOK)
            yield [run.view for run in runs]
    finally:
        cancelled.set()  # whoever stops watching stops the runs
        for thread in threads:
            thread.join()
    errors = [run.error for run in runs if run.error is not None]
    if errors:
        first = next((e for e in errors if not isinstance(e, CancelledError)), errors[0])
        if isinstance(first, CancelledError):
            yield [replace(run.view, cancelled=not run.view.done) for run in runs]
        raise first
    yield [run.view for run in runs]
