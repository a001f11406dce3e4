"""Traces: one for each batch, from the submit to the handler, with the calls to the provider in it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import Services
from overnight import BatchHandler, Overnight, Settings, Task
from overnight.embedded import EmbeddedTemporal
from overnight.storage.store import Store
from worker import compose


class Say(Task[str], name="tracing-say"):
    text: str

    def prompt(self) -> str:
        return self.text


class Noted(BatchHandler, name="tracing-noted"):
    async def on_success(self) -> None:
        trace.get_current_span().set_attribute("noted", value=True)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What was traced in this test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda *_, **__: provider.get_tracer("test"))
    return exporter


@pytest.fixture
async def temporal(temporal_server: EmbeddedTemporal, spans: InMemorySpanExporter) -> AsyncIterator[Client]:
    yield await Client.connect(
        temporal_server.address, data_converter=pydantic_data_converter, interceptors=[TracingInterceptor()]
    )
    await asyncio.sleep(0.05)


@pytest.fixture
async def overnight(settings: Settings, store: Store, temporal: Client) -> AsyncIterator[Overnight]:
    services = Services(settings, Store.from_settings(settings))
    async with compose(temporal, services):
        yield Overnight(settings=settings, store=store, temporal=temporal)
    await services.aclose()


async def test_a_batch_is_one_trace_from_submit_to_handler_with_the_calls_to_the_provider(
    overnight: Overnight, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer("user").start_as_current_span("nightly job"):
        batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Noted)
        await batch.add(Say(text="a secret prompt"))
        await batch.submit()
    await batch.wait()

    found: dict[str, ReadableSpan] = {span.name: span for span in spans.get_finished_spans()}

    def parent(name: str) -> str:
        above = found[name].parent
        assert above is not None
        return next(span.name for span in spans.get_finished_spans() if span.context.span_id == above.span_id)

    job = found["nightly job"].context.trace_id
    ours = [span for span in spans.get_finished_spans() if span.context.trace_id == job]
    assert parent("StartWorkflow:Batch") == "nightly job"
    assert parent("openai create batch") == "RunActivity:create_provider_batch"
    assert parent("openai upload") == "RunActivity:upload_entries"
    assert parent("RunActivity:dispatch_handler") == "StartActivity:dispatch_handler"
    assert {"openai create batch", "RunActivity:dispatch_handler", "StartWorkflow:Batch"} <= {s.name for s in ours}
    assert (found["RunActivity:dispatch_handler"].attributes or {})["noted"]
    call = found["openai create batch"].attributes or {}
    assert (call["http.request.method"], call["url.path"], call["http.response.status_code"]) == (
        "POST",
        "/batches",
        200,
    )
    assert "secret" not in "".join(span.to_json() for span in ours)
