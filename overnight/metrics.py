"""Metrics, through Temporal's own Prometheus exporter, so that a worker has one address with its metrics and ours.

Off unless OVERNIGHT_METRICS_ADDRESS is set. Counters say what this process did, so they are summed over processes; they
are added to when the database has it, so a crash in between loses a count. Gauges are read from the database by every
worker, so of them the largest counts. Labels are few: no batch id, and models only up to a limit.
"""

import asyncio
import logging
from dataclasses import dataclass
from time import time

from temporalio import activity
from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from overnight.batches import Batch, BatchStatus
from overnight.errors import ConfigurationError, OvernightError
from overnight.log_events import LogEvent
from overnight.providers import provider_names
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.storage.vitals import Vitals

logger = logging.getLogger(__name__)

SAMPLED_EVERY_SECONDS = 15.0
_MODELS_AT_MOST = 50
_MICRO = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric's name and meaning; a counter is exported with `_total` behind its name."""

    name: str
    text: str


STEP_FAILURES = Metric(name="overnight_step_failures", text="Failed attempts of steps of batches and campaigns.")
POLLS = Metric(name="overnight_polls", text="Looks at the provider, by the status it said or the kind of error.")
LINES = Metric(name="overnight_result_lines", text="Result lines that were read: accepted or stray.")
BATCHES = Metric(name="overnight_batches_read", text="Batches whose results are read, by terminal status.")
ENTRIES = Metric(name="overnight_entries", text="Entries by final outcome.")
TOKENS = Metric(name="overnight_tokens", text="Tokens as billed.")
COST = Metric(name="overnight_cost_microdollars", text="Cost in millionths of a US dollar, where a price is known.")
UNFINISHED = Metric(name="overnight_unfinished_batches", text="Submitted batches whose handler has not run.")
OLDEST = Metric(name="overnight_oldest_unfinished_batch_age_seconds", text="Since the oldest of them was submitted.")
ATTENTION = Metric(name="overnight_batches_needing_attention", text="As `overnight list --needs-attention` has them.")
SAMPLED_AT = Metric(name="overnight_sampled_timestamp_seconds", text="When the gauges were last read, in Unix time.")

_models: set[str] = set()


def runtime_of(settings: Settings) -> Runtime | None:
    """What serves the metrics, for as long as it is kept; None where none are wanted.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    if settings.metrics_address is None:
        return None
    exporter = PrometheusConfig(
        bind_address=settings.metrics_address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=exporter))
    except ValueError as error:
        raise ConfigurationError(f"OVERNIGHT_METRICS_ADDRESS={settings.metrics_address}: {error}.") from None


def count(metric: Metric, number: int = 1, **labels: str) -> None:
    """Add to a counter; nothing outside of an activity."""
    if activity.in_activity() and number:
        meter = activity.metric_meter().with_additional_attributes(labels)
        meter.create_counter(metric.name, metric.text).add(number)


def count_results(batch: Batch) -> None:
    """A batch's results are read and priced."""
    labels = {"provider": batch.provider, "model": _model(batch.model)}
    count(BATCHES, provider=batch.provider, status=batch.status.value)
    count(TOKENS, batch.usage.input_tokens, kind="input", **labels)
    count(TOKENS, batch.usage.output_tokens, kind="output", **labels)
    if batch.cost.billed is not None:
        count(COST, int(batch.cost.billed * _MICRO), **labels)


def count_outcomes(batch: Batch) -> None:
    """A batch's outcomes are final."""
    for outcome, number in batch.outcomes.items():
        count(ENTRIES, number, provider=batch.provider, model=_model(batch.model), outcome=outcome.value)


def _model(name: str) -> str:
    """Users may name any model, and each would be another time series for ever."""
    if len(_models) < _MODELS_AT_MOST:
        _models.add(name)
    return name if name in _models else "other"


async def sample(store: Store, client: Client) -> None:
    """Read the gauges from the database again and again. While it does not answer they stand still, as
    `overnight_sampled_timestamp_seconds` says.
    """
    meter = client.service_client.config.runtime.metric_meter if client.service_client.config.runtime else None
    while meter is not None:
        try:
            _show(meter, await store.vitals.read())
        except OvernightError as error:
            logger.warning("the gauges could not be read: %s", error.public, extra={"event": LogEvent.GAUGES_UNREAD})
        except Exception as error:  # noqa: BLE001 - metrics are no reason to end a worker
            logger.warning(
                "the gauges could not be read: %s", type(error).__name__, extra={"event": LogEvent.GAUGES_UNREAD}
            )
        await asyncio.sleep(SAMPLED_EVERY_SECONDS)


def _show(meter: MetricMeter, vitals: Vitals) -> None:
    unfinished = meter.create_gauge(UNFINISHED.name, UNFINISHED.text)
    for provider in provider_names():
        for status in BatchStatus:  # those that nobody has as well: what is not set again keeps its old value
            labels = {"provider": provider, "status": status.value}
            unfinished.set(vitals.unfinished.get((provider, status), 0), labels)
    meter.create_gauge_float(OLDEST.name, OLDEST.text).set(vitals.oldest_age.total_seconds())
    meter.create_gauge(ATTENTION.name, ATTENTION.text).set(vitals.needing_attention)
    meter.create_gauge_float(SAMPLED_AT.name, SAMPLED_AT.text).set(time())
