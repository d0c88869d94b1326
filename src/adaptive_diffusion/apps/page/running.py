"""What every tab's run has in common.

It is the visitor's newest, it says at once that something happens, and its errors are explained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from adaptive_diffusion.apps.page.drawing import cancelled, waiting
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.newest import Newest, Stop
from adaptive_diffusion.apps.page.race import CancelledError
from adaptive_diffusion.apps.page.settings import Controls

__all__ = ["Runs", "Work"]

Work = Callable[..., Iterator[Any]]
"""`work(stop, asked, *values)`: gives what the outputs show, again and again."""


class Runs:
    """What starts and ends the visitors' runs.

    Args:
        models: the models that can be chosen.
        controls: the settings.
    """

    def __init__(self, models: Models, controls: Controls) -> None:
        self._models = models
        self._controls = controls
        self._newest = Newest()

    def start(
        self,
        triggers: Sequence[Any],
        work: Work,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        statuses: Sequence[Any],
    ) -> None:
        """Lets the triggers start the visitor's newest run.

        Args:
            triggers: what starts it.
            work: what it does, once the model is loaded.
            inputs: whose values `work` gets.
            outputs: what is shown in them is what `work` gives.
            statuses: those of them that say how it goes.
        """
        gr.on(
            triggers,
            self._handler(work, statuses),
            [*self._controls.inputs, *inputs],
            outputs,
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_visibility="private",
        )

    def cancel(self, button: gr.Button) -> None:
        """Lets the button end the visitor's run."""

        def stop(request: gr.Request) -> None:
            self._newest.cancel(request.session_hash or "")

        button.click(stop, queue=False, show_progress="hidden", api_visibility="private")

    def leave(self, request: gr.Request) -> None:
        """A visitor has gone."""
        self._newest.cancel(request.session_hash or "")

    def _handler(self, work: Work, statuses: Sequence[Any]) -> Callable[..., Iterator[Any]]:
        """An event handler that runs `work`.

        The visitor's run before it is ended and shows nothing more, a cancelled one says so, and
        whatever can be explained to the visitor is.
        """
        count = len(self._controls.inputs)

        def say(text: str) -> dict[Any, str]:
            return {status: text for status in statuses}

        def run(stop: Stop, values: Sequence[Any]) -> Iterator[Any]:
            yield say(waiting("starting"))
            asked = self._controls.read(*values[:count])
            for seconds in self._models.loading(asked.model, asked.bare):
                yield say(waiting(f"loading {asked.model}: {seconds:.0f} s"))
                if stop.is_set():
                    yield say(cancelled())
                    return
            yield from work(stop, asked, *values[count:])

        def handler(request: gr.Request, *values: Any) -> Iterator[Any]:
            stop = self._newest.begin(request.session_hash or "")
            try:
                for shown in run(stop, values):
                    if stop.replaced:
                        return
                    yield shown
            except CancelledError:
                return
            except (ValueError, TypeError, NotImplementedError, OSError, RuntimeError) as error:
                yield say("")
                raise gr.Error(str(error) or type(error).__name__, print_exception=False) from error
            finally:
                stop.set()

        return handler
