"""Traces, from a client's submit through the workflow and its activities to the provider and the handler.

Off unless OpenTelemetry's own variables say where spans go: OTEL_EXPORTER_OTLP_ENDPOINT, or the one for traces alone.
The others of that family (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, ...) mean what they mean
there.
Span names and attributes are names and ids; they are not encrypted, whatever codec is used.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from temporalio.client import Interceptor

from overnight.errors import MissingExtraError

_DESTINATIONS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where spans go, and does not say that none shall."""
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not off and any(environment.get(name) for name in _DESTINATIONS)


def interceptors() -> Sequence[Interceptor]:
    """What a client of Temporal, and workers on it, are traced by.

    Raises:
        MissingExtraError: traces are wanted, and the extra `otel` is not installed.
    """
    if not is_wanted():
        return ()
    if not find_spec("opentelemetry.sdk") or not find_spec("opentelemetry.exporter"):
        raise MissingExtraError("Sending traces", "otel")
    from temporalio.contrib.opentelemetry import TracingInterceptor  # noqa: PLC0415 - needs the extra

    _set_up()
    return (TracingInterceptor(),)


def _set_up() -> None:
    """Send spans, unless the application that we are a part of has set that up for itself."""
    from opentelemetry import trace  # noqa: PLC0415 - needs the extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - "
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - "
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - "

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
