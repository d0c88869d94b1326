"""A visitor's newest run is the one that counts: an older one is cancelled."""

from __future__ import annotations

import threading

__all__ = ["Newest", "Stop"]


class Stop(threading.Event):
    """Set when a run is to end.

    Attributes:
        replaced: whether that is because the visitor has begun another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.replaced = False


class Newest:
    """The run that each visitor waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Stop] = {}

    def begin(self, visitor: str) -> Stop:
        """Ends the visitor's run, if there is one; set what is returned to end the new."""
        stop = Stop()
        with self._lock:
            before = self._runs.get(visitor)
            self._runs[visitor] = stop
        if before is not None:
            before.replaced = True
            before.set()
        return stop

    def cancel(self, visitor: str) -> None:
        """Ends the visitor's run, if there is one."""
        with self._lock:
            run = self._runs.pop(visitor, None)
        if run is not None:
            run.set()
