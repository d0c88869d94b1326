"""A visitor's newest run is the one that counts: an older one is cancelled."""

from __future__ import annotations

import threading

__all__ = ["Newest"]


class Newest:
    """The run that each visitor waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, threading.Event] = {}

    def begin(self, visitor: str) -> threading.Event:
        """Cancels the visitor's run, if there is one; set what is returned to cancel the new."""
        cancelled = threading.Event()
        with self._lock:
            before = self._runs.get(visitor)
            self._runs[visitor] = cancelled
        if before is not None:
            before.set()
        return cancelled

    def cancel(self, visitor: str) -> None:
        """Cancels the visitor's run, if there is one."""
        with self._lock:
            run = self._runs.pop(visitor, None)
        if run is not None:
            run.set()
