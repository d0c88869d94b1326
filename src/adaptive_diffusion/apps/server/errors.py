"""What the server refuses, in the form that clients of the OpenAI interface know."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

__all__ = [
    "ApiError",
    "InvalidRequestError",
    "ModelNotFoundError",
    "QueueFullError",
    "ShuttingDownError",
    "SlowBodyError",
    "TimeLimitError",
    "TooLargeError",
    "UnauthorizedError",
    "error_body",
]


def error_body(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ApiError(HTTPException):
    """Base of the errors that are the answer to a request.

    Attributes:
        param: the argument that was wrong.
    """

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(self.status, message, headers)
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The answer's content."""
        return error_body(self.detail, self.kind, self.param, self.code)


class InvalidRequestError(ApiError):
    """An argument that the server, or this model, does not take."""

    status = 400
    kind = "invalid_request_error"


class ModelNotFoundError(ApiError):
    """A model that is not among those given at the start."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"


class TooLargeError(ApiError):
    """A body of more bytes than are read."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class SlowBodyError(ApiError):
    """A body that did not come in time."""

    status = 408
    kind = "invalid_request_error"
    code = "request_timeout"


class UnauthorizedError(ApiError):
    """No API key, or another one."""

    status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"


class QueueFullError(ApiError):
    """More pictures wait already than the server lets wait."""

    status = 429
    kind = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class TimeLimitError(ApiError):
    """The pictures took longer than a request may; to ask again would take as long."""

    status = 504
    code = "time_limit"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"X-Should-Retry": "false"})


class ShuttingDownError(ApiError):
    """The server ends and takes no new work."""

    status = 503
    code = "shutting_down"
