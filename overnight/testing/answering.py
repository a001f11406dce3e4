"""A Task and what a model says to it, without any server: rendered, said in the provider's own words, hydrated."""

import time
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from pydantic_core import from_json

from overnight.batches import Batch, Cost, Entry, Outcome, Usage
from overnight.costs import tariff
from overnight.hydrating import hydrated
from overnight.ingesting import new_result
from overnight.intake import Intake, Item, RawRequest, check_model, choose_endpoint
from overnight.providers import provider_facts
from overnight.providers.base import ProviderFacts, untold_by
from overnight.reading import entry_of
from overnight.simulator.answers import Setting
from overnight.simulator.config import SimulatorConfig
from overnight.simulator.models import ModelReply, ModelRequest
from overnight.simulator.results import answered_line, unfinished_line
from overnight.storage.entries import NewEntry
from overnight.storage.outputs import StoredEntry
from overnight.storage.result_rows import NewResult
from overnight.storage.results import outcome_without_line
from overnight.tasks import Task
from overnight.testing.replies import Reply, reply_of
from overnight.testing.values import DEFAULT_MODEL, DEFAULT_PROVIDER, finished_batch

OutputT = TypeVar("OutputT")

_TOKEN = "testing0"  # noqa: S105 - it marks a submission
_SOME_ID = "0" * 32
_UNKNOWN = Cost(billed=None, list_price=None)
_UNREACHED = (Outcome.EXPIRED, Outcome.CANCELED)
_ANY_MODEL = SimulatorConfig(openai_models=("*",), anthropic_models=("*",))


@overload
async def answer(
    item: Task[OutputT],
    reply: Reply,
    *,
    provider: str = DEFAULT_PROVIDER,
    model: str = DEFAULT_MODEL,
    endpoint: str | None = None,
    custom_id: str | None = None,
) -> Entry[OutputT]: ...


@overload
async def answer(
    item: RawRequest,
    reply: Reply,
    *,
    provider: str = DEFAULT_PROVIDER,
    model: str = DEFAULT_MODEL,
    endpoint: str | None = None,
    custom_id: str | None = None,
) -> Entry[Any]: ...


async def answer(  # noqa: PLR0913 - what a batch and an entry are made of, each with a default
    item: Item,
    reply: Reply,
    *,
    provider: str = DEFAULT_PROVIDER,
    model: str = DEFAULT_MODEL,
    endpoint: str | None = None,
    custom_id: str | None = None,
) -> Entry[Any]:
    """The entry that comes of a Task and of what the model says to it.

    The Task is rendered as it would be for a batch, so a schema that the provider would refuse is refused here. The
    reply is written as the provider writes its result lines, and read as a worker reads them::

        entry = await answer(Classify(review="Works."), {"label": "good"})
        assert entry.output.label == "good"

        entry = await answer(Classify(review="Works."), refused())
        assert entry.outcome is Outcome.INVALID

    Args:
        item: the Task, or a RawRequest.
        reply: text, a pydantic model, a JSON value; `refused()`, `cut_off()`, `errored()`, `calls_tool()` or
            `vector()`; a callable that gets the request and returns one of these; or `Outcome.MISSING`, `EXPIRED` or
            `CANCELED` for an entry that was not answered.
        provider: whose words are spoken.
        model: any model that the provider takes in batches.
        endpoint: as for `create_batch`.
        custom_id: by default the one that the first entry of a batch gets.

    Raises:
        RequestError: the provider could not take the request.
        UsageError: an outcome that no provider gives by itself, or no such provider, model or endpoint.
    """
    facts = provider_facts(provider)
    check_model(facts, model, allow_unknown=True)
    batch = finished_batch(provider=provider, model=model, endpoint=choose_endpoint(facts, endpoint))
    asked = _Asked(
        facts=facts, batch=batch, entry=Intake(facts, model=model, endpoint=batch.endpoint).entry(item, custom_id)
    )
    return entry_of(await hydrated(asked.stored(asked.ingested(reply)), facts, batch.endpoint))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """An entry on its way to a provider and back, by the steps of a batch."""

    facts: ProviderFacts
    batch: Batch
    entry: NewEntry

    @property
    def custom_id(self) -> str:
        return self.entry.custom_id or f"{self.entry.label}-1"

    def ingested(self, reply: Reply) -> NewResult:
        if reply is Outcome.MISSING:
            outcome, code, reason = outcome_without_line(self.batch)
            return NewResult(
                position=1, outcome=outcome, usage=Usage(), cost=_UNKNOWN, error_code=code, reason=reason, line=""
            )
        line = self._line(reply).removesuffix(b"\n")
        prices = tariff(self.batch.provider, self.batch.model, at=self.batch.submitted_at)
        request = from_json(self.entry.request)
        untold = untold_by(self.facts, request, model=self.batch.model, endpoint=self.batch.endpoint)
        return new_result(1, self.facts.parse_line(line, _TOKEN).with_untold(untold), line, prices)

    def _line(self, reply: Reply) -> bytes:
        responder = _Given(reply)
        setting = Setting(config=_ANY_MODEL, responder=responder, endpoint=self.batch.endpoint, created_at=time.time())
        wire_id = self.facts.wire_id(self.custom_id, _TOKEN)
        if isinstance(reply, Outcome) and reply in _UNREACHED:
            return unfinished_line(setting, reply.value, custom_id=wire_id, token=_SOME_ID)
        line, _ = answered_line(setting, from_json(self.entry.request), custom_id=wire_id, token=_SOME_ID)
        for error in responder.errors:
            raise error
        return line

    def stored(self, result: NewResult) -> StoredEntry:
        return StoredEntry(
            position=result.position,
            custom_id=self.custom_id,
            task=self.entry.task,
            fields=self.entry.fields,
            outcome=result.outcome,
            error_code=result.error_code,
            reason=result.reason,
            usage=result.usage,
            cost=result.cost,
            line=result.line or None,
            output=None,
        )


@dataclass(frozen=True)
class _Given:
    """Says what it was told to. What a test's own callable raises is the test's, and not the provider's trouble."""

    reply: Reply
    errors: list[Exception] = field(default_factory=list)

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        try:
            return reply_of(self.reply(request) if callable(self.reply) else self.reply)
        except Exception as error:
            self.errors.append(error)
            raise
