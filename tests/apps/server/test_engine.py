"""What the engine promises: bounds, cancelling, and that no picture harms another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from running_server import FULL, LOOSE, tiny_model

from adaptive_diffusion.apps.server.engine import Engine, Job
from adaptive_diffusion.apps.server.errors import (
    InvalidRequestError,
    QueueFullError,
    ShuttingDownError,
    TimeLimitError,
)
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.meeting import NotFiniteError
from adaptive_diffusion.apps.server.metrics import Metrics
from adaptive_diffusion.apps.server.models import Model, Picture

Make = Callable[..., Engine]


@pytest.fixture
def model() -> Model:
    return tiny_model()


@pytest.fixture
def engine(model: Model) -> Iterator[Make]:
    """Makes engines over the model, with these limits."""
    made: list[Engine] = []

    def make(**limits: Any) -> Engine:
        made.append(Engine([model], Limits(**limits), Metrics()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def picture(seed: int = 0, steps: int = 8, **changes: Any) -> Picture:
    settings: dict[str, Any] = {"prompt": "a cat", "choice": LOOSE, "size": (16, 16)}
    return Picture(seed=seed, steps=steps, **settings | changes)


def long_picture(seed: int = 0) -> Picture:
    return picture(seed, steps=900, choice=FULL)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it has not come to that")


def assert_same(model: Model, *jobs: Job) -> None:
    """The pictures are those that the model makes alone.

    All are waited for first: only in the engine do pictures share a tokenizer in safety.
    """
    for job, drawn in [(job, job.result.result(60)) for job in jobs]:
        alone = model.draw(job.picture)
        assert drawn.report.mask == alone.report.mask
        difference = np.asarray(drawn.image).astype(int) - np.asarray(alone.image)
        assert abs(difference).max() <= 1


def test_the_queue_is_bounded_and_says_when_to_come_again(engine: Make, model: Model) -> None:
    bounded = engine(concurrency=1, queue=2)
    jobs = bounded.submit(model, [long_picture()] * 2)
    with pytest.raises(QueueFullError) as caught:
        bounded.submit(model, [picture()] * 2)  # all of a request or none
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    jobs += bounded.submit(model, [picture()])
    assert (bounded.running, bounded.queued) == (1, 2)
    for job in jobs:
        job.cancel()
    wait_until(lambda: bounded.running == 0)
    assert_same(model, *bounded.submit(model, [picture()]))


@dataclass
class Steps:
    """A watcher that has something done at every step."""

    on_step: Callable[[int, int, int], None]

    def on_preview(self, index: int, preview: Any) -> None:
        raise AssertionError("nobody asked for previews")


def test_cancelling_ends_the_work_at_the_next_step(engine: Make, model: Model) -> None:
    one = engine(concurrency=2)
    seen: list[int] = []
    begun = threading.Event()

    def on_progress(index: int, step: int, computed: int) -> None:
        seen.append(step)
        begun.set()

    long = one.submit(model, [long_picture()], Steps(on_progress))[0]
    other = one.submit(model, [picture(1, steps=20)])[0]
    assert begun.wait(30)
    long.cancel()
    with pytest.raises(CancelledError):
        long.result.result(30)
    assert max(seen) < 900
    assert_same(model, other)
    wait_until(lambda: one.running == 0)


def test_a_picture_has_its_time(engine: Make, model: Model) -> None:
    hurried = engine(seconds=3)

    def dawdle(index: int, step: int, computed: int) -> None:
        if index == 0:
            time.sleep(0.01)

    late, early = hurried.submit(model, [long_picture(), picture()], Steps(dawdle))
    with pytest.raises(TimeLimitError):
        late.result.result(30)
    assert_same(model, early)


@pytest.mark.parametrize(
    ("changes", "error"), [({"size": (20, 20)}, InvalidRequestError), ({"prompt": 5}, Exception)]
)
def test_a_picture_that_fails_harms_no_other(
    engine: Make, model: Model, changes: dict[str, Any], error: type[Exception]
) -> None:
    jobs = engine().submit(
        model, [picture(0), picture(1, **changes), picture(2), picture(3, size=(32, 32))]
    )
    with pytest.raises(error):
        jobs[1].result.result(30)
    assert_same(model, jobs[0], jobs[2], jobs[3])


def test_a_denoiser_that_fails_at_times_fails_only_whom_it_must(
    engine: Make, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails for every call of more than four rows, and gives NaN to the prompt of one."""
    pictures = [picture(seed) for seed in range(4)]
    poisoned = picture(9, prompt="nan")
    poison = model.pipe.encode_prompt("nan", "cpu", 1, False)[0]
    failures = []

    def fail(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        if len(args[0]) > 4:
            failures.append(len(args[0]))
            raise RuntimeError("not enough memory")
        rows = [bool((row == poison[0]).all()) for row in kwargs["encoder_hidden_states"]]
        sample = output[0].clone()
        sample[rows] = float("nan")
        return (sample,)

    together = engine()
    hook = model.pipe.unet.register_forward_hook(fail, with_kwargs=True)
    jobs = together.submit(model, [*pictures, poisoned])
    with pytest.raises(NotFiniteError):
        jobs[-1].result.result(60)
    for job in jobs[:-1]:
        job.result.result(60)
    hook.remove()
    assert_same(model, *jobs[:-1])
    assert failures
    assert "not enough memory" in caplog.text
    assert "a picture of sd15 failed" in caplog.text


def test_closing_finishes_what_runs_and_drops_what_waits(engine: Make, model: Model) -> None:
    closing = engine(concurrency=1)
    first, second = closing.submit(model, [picture(steps=30), picture(1)])
    wait_until(lambda: first.result.running())
    closing.close()
    assert_same(model, first)
    assert second.result.cancelled()
    with pytest.raises(ShuttingDownError):
        closing.submit(model, [picture()])


def test_the_model_is_left_as_it_was(model: Model) -> None:
    before = type(model.pipe.unet)
    working = Engine([model], Limits(), Metrics())
    assert type(model.pipe.unet) is not before
    working.submit(model, [picture()])[0].result.result(30)
    working.close()
    assert type(model.pipe.unet) is before
