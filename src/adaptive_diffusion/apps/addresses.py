"""Addresses that servers listen on, taken before anything heavy is loaded."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

__all__ = ["take", "url"]


def take(host: str, ports: Iterable[int]) -> socket.socket:
    """A socket with the first of these ports that is free, 0 being any. It does not listen yet.

    Raises:
        OSError: if the host or none of the ports can be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        taken = socket.socket(family)
        if os.name == "posix":  # a port that a server has just left is free
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
            return taken
        except OSError as error:
            taken.close()
            refused = error
            if error.errno != errno.EADDRINUSE:
                break
    raise OSError(
        f"can't listen on {host}, port {port}: {refused.strerror}; choose with --host and --port"
    ) from refused


def url(taken: socket.socket) -> str:
    """Under which a browser finds it."""
    host, port, *_ = taken.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
