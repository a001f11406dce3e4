"""Spans of calls to providers, for whoever collects traces; nothing where OpenTelemetry is not installed or not set up.

A span has the call's method, path and status, and the kind of an error. It has no body, no header and no error's text:
providers quote requests in those.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from opentelemetry import trace

    _IS_INSTALLED = True
except ImportError:  # the extra `otel`
    _IS_INSTALLED = False


@contextmanager
def provider_call(provider: str, operation: str, method: str, path: str) -> Iterator[Callable[[int], None]]:
    """A span around a call; what it gives is told the status of the answer."""
    if not _IS_INSTALLED:
        yield lambda _status: None
        return
    attributes = {"http.request.method": method, "url.path": path}
    with trace.get_tracer("overnight").start_as_current_span(
        f"{provider} {operation}",
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield lambda status: span.set_attribute("http.response.status_code", status)
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(trace.StatusCode.ERROR)
            raise
