"""What every tab's run has in common: it is the visitor's newest, and its errors are explained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.newest import Newest
from adaptive_diffusion.apps.page.race import CancelledError

__all__ = ["cancels", "runs"]


def runs(
    newest: Newest,
    triggers: Sequence[Any],
    work: Callable[..., Iterator[Any]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    waiting: Sequence[Any],
) -> None:
    """Lets the triggers start `work(cancelled, *values of the inputs)`, the visitor's newest run.

    What it yields goes to the outputs; `waiting` are those that show that there is none yet.
    """
    gr.on(
        triggers,
        _as_newest(newest, work),
        inputs,
        outputs,
        show_progress="minimal",
        show_progress_on=waiting,
        concurrency_limit=None,
        trigger_mode="multiple",
        api_visibility="private",
    )


def cancels(newest: Newest, button: gr.Button) -> None:
    """Lets the button end the visitor's run."""

    def stop(request: gr.Request) -> None:
        newest.cancel(request.session_hash or "")

    button.click(stop, queue=False, show_progress="hidden", api_visibility="private")


def _as_newest(newest: Newest, work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """An event handler from `work(cancelled, *values)`.

    The visitor's run before it is cancelled, a cancelled one ends quietly, and whatever can be
    explained to the visitor is.
    """

    def handler(request: gr.Request, *values: Any) -> Iterator[Any]:
        cancelled: threading.Event = newest.begin(request.session_hash or "")
        try:
            yield from work(cancelled, *values)
        except CancelledError:
            return
        except (ValueError, TypeError, NotImplementedError, OSError, RuntimeError) as error:
            raise gr.Error(str(error) or type(error).__name__, print_exception=False) from error
        finally:
            cancelled.set()

    return handler
