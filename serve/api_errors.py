"""Errors as OpenAI clients know them: a status and ``{"error": {message, type, param, code}}``.

400: the request is not well-formed. 404: no such model. 413: too large. 422: well-formed, but
cannot be answered here. 503: an engine was lost; worth another try.
"""

from __future__ import annotations

from typing import Any

from reasoning.errors import ConfigError, EngineError, InputError, StagebeamError


class ApiError(StagebeamError):
    """A request that is answered with an error."""

    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, status, param, code)
        self.message = message
        self.status = status
        self.param = param
        self.code = code

    def __str__(self) -> str:
        return self.message


def as_api_error(error: Exception) -> ApiError:
    """The answer to ``error``; what is not ours becomes a bare 500 without its text."""
    match error:
        case ApiError():
            return error
        case EngineError():
            return ApiError(f"The model could not answer: {error}", 503, code="engine_unavailable")
        case InputError() | ConfigError():
            return ApiError(str(error), 422)
        case _:
            return ApiError("The server failed while answering; its log says why.", 500, code="internal_error")


def error_body(error: ApiError) -> dict[str, Any]:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
