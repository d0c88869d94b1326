"""What stands before the routes: the API key, the size of bodies, and the counting of answers."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adaptive_diffusion.apps.server.errors import (
    ApiError,
    SlowBodyError,
    TooLargeError,
    UnauthorizedError,
)
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.metrics import Metrics

__all__ = ["ApiKey", "BodyLimit", "Counting"]

_OPEN = ("/health", "/", "/docs", "/openapi.json")


class ApiKey:
    """Lets nobody in without the key, but to `/health` and what says how to ask."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError("give the server's API key as a bearer token")
        await _answer(error)(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = _header(scope, b"authorization") or b""
        return hmac.compare_digest(given, self._expected)


class BodyLimit:
    """Reads no more of a body, and waits no longer for it, than the limits allow."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = _header(scope, b"content-length") or b"0"
        if not announced.isdigit() or int(announced) > self._limits.body_bytes:
            await _answer(self._too_large())(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        deadline = time.monotonic() + self._limits.body_seconds
        size = 0
        is_complete = False

        async def receive_bounded() -> Message:
            nonlocal size, is_complete
            if is_complete:  # what comes now is that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except (TimeoutError, asyncio.TimeoutError):
                raise SlowBodyError("the body has not come in time") from None
            size += len(message.get("body", b""))
            if size > self._limits.body_bytes:
                raise self._too_large()
            is_complete = not message.get("more_body", False)
            return message

        return receive_bounded

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"a request may have {self._limits.body_bytes} bytes at most")


class Counting:
    """Counts answers and their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 499  # if it never comes to an answer

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route: Any = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - began)


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/swagger/")


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status_code, headers=dict(error.headers or {}))


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
