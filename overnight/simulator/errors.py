"""One error for both providers, and how each of them writes it."""

from typing import Any

from starlette.responses import Response

from overnight.simulator.jsontext import dump

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OPENAI_TYPES = {429: "requests", 500: "server_error", 502: "server_error", 503: "server_error", 504: "server_error"}
OPENAI_CODES = {429: "rate_limit_exceeded"}


class ApiError(Exception):
    """A request is refused: the provider's own status and words, rendered by whoever was asked."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code


def openai_error(error: ApiError) -> dict[str, Any]:
    kind = error.kind or OPENAI_TYPES.get(error.status, "invalid_request_error")
    code = error.code or OPENAI_CODES.get(error.status)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}


def anthropic_error(error: ApiError, request_id: str | None) -> dict[str, Any]:
    kind = error.kind or ANTHROPIC_TYPES.get(error.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}


def error_body(provider: str, error: ApiError, request_id: str | None) -> dict[str, Any]:
    return anthropic_error(error, request_id) if provider == "anthropic" else openai_error(error)


def json_response(body: Any, *, status: int = 200) -> Response:
    return Response(dump(body), status_code=status, media_type="application/json")
