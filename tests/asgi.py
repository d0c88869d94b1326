"""An ASGI application on a free port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from adaptive_diffusion.apps import addresses


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serves it for the length of the block; its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10))
    with addresses.take("127.0.0.1", [0]) as taken:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield addresses.url(taken)
        finally:
            server.should_exit = True
            thread.join()
