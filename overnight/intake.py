"""What users hand in, checked and rendered into entries that are ready to be sent."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json, to_json

from overnight.costs import knows_model
from overnight.errors import CustomIdError, RequestError, UnknownModelError
from overnight.prices import PriceOverrides
from overnight.providers.base import ProviderFacts
from overnight.storage.entries import NewEntry, Room
from overnight.tasks import Task, tasks


@dataclass(frozen=True, kw_only=True)
class RawRequest:
    """A provider-ready body, for people who have one. Its response is stored as it comes; no Task reads it.

    Attributes:
        custom_id: what its result is matched by, where the call that adds it does not say.
        endpoint: where it is meant to go, where that is known; an entry of another endpoint's batch is refused.
    """

    body: Mapping[str, Any]
    custom_id: str | None = None
    endpoint: str | None = None


Item = Task[Any] | RawRequest
Items = Iterable[Item] | AsyncIterable[Item]


def check_model(
    facts: ProviderFacts, model: str, *, allow_unknown: bool, overrides: PriceOverrides = MappingProxyType({})
) -> None:
    """Refuse a model that cannot be batched, or whose name is probably a slip.

    Raises:
        UnknownModelError: with the way out.
    """
    if not facts.supports_batch(model):
        raise UnknownModelError("batch model", model, f"Provider {facts.name!r} takes no batches for this model.")
    if not allow_unknown and not knows_model(facts.name, model, overrides=overrides):
        raise UnknownModelError(
            "model",
            model,
            f"The installed price table has no such model of {facts.name!r}. If the name is right, pass "
            f"allow_unknown_model=True: the batch runs, and its cost stays unknown; or say its price in "
            f"OVERNIGHT_PRICES.",
        )


def choose_endpoint(facts: ProviderFacts, endpoint: str | None) -> str:
    """The endpoint a batch addresses; the provider's first one by default.

    Raises:
        RequestError: the provider has no such batch endpoint.
    """
    if endpoint is None:
        return facts.endpoints[0]
    if endpoint not in facts.endpoints:
        raise RequestError(
            f"Provider {facts.name!r} has no batch endpoint {endpoint!r}. It has: {', '.join(facts.endpoints)}."
        )
    return endpoint


def room(facts: ProviderFacts) -> Room:
    """What a batch of this provider may hold."""
    return Room(provider=facts.name, limits=facts.limits, frame_bytes=facts.frame_bytes)


class Intake:
    """Turns tasks and raw bodies into entries of one batch: its provider, its model, its endpoint."""

    def __init__(self, facts: ProviderFacts, *, model: str, endpoint: str) -> None:
        self._facts, self._model, self._endpoint = facts, model, endpoint
        self._custom_id = re.compile(facts.limits.custom_id_pattern)
        self._number = 0
        self._names: dict[type[Task[Any]], tuple[str, str]] = {}

    def entry(self, item: Item, custom_id: str | None = None) -> NewEntry:
        """One entry, checked and rendered.

        Raises:
            CustomIdError: the provider would refuse the custom id.
            RequestError: the provider could not take the request; the text says which entry it is.
            UnknownTaskError: the Task's class cannot be found again by name.
        """
        self._number += 1
        if custom_id is None and isinstance(item, RawRequest):
            custom_id = item.custom_id
        if custom_id is not None:
            self._check_id(custom_id)
        try:
            return self._raw(item, custom_id) if isinstance(item, RawRequest) else self._rendered(item, custom_id)
        except RequestError as error:
            raise RequestError(f"Entry {custom_id or f'number {self._number}'}: {error}") from None

    async def entries(self, items: Items, custom_id: Callable[[Any], str | None] | None) -> AsyncIterator[NewEntry]:
        """All of them, one after the other, as they are asked for.

        Raises:
            UsageError: as for one.
        """
        async for item in iterate(items):
            yield self.entry(item, custom_id(item) if custom_id else None)

    def _check_id(self, custom_id: Any) -> None:
        """Ids come from the caller's data, where they may be numbers: how they become text is for the caller to say."""
        if not isinstance(custom_id, str) or not self._custom_id.fullmatch(custom_id):
            raise CustomIdError(custom_id, self._facts.limits.custom_id_pattern)

    def _raw(self, item: RawRequest, custom_id: str | None) -> NewEntry:
        if item.endpoint not in {None, self._endpoint}:
            raise RequestError(f"url: the request is for {item.endpoint!r}, and its batch for {self._endpoint!r}.")
        self._facts.check(item.body, model=self._model, endpoint=self._endpoint)
        inputs = self._facts.inputs(item.body, endpoint=self._endpoint)
        return NewEntry(
            custom_id=custom_id, label="request", task=None, fields=None, request=request_json(item.body), inputs=inputs
        )

    def _name(self, task: type[Task[Any]]) -> tuple[str, str]:
        """A Task's name, and the label of its entries: a batch has few kinds and many of each."""
        if task not in self._names:
            name = tasks.name_of(task)
            self._names[task] = name, _label(name)
        return self._names[task]

    def _rendered(self, item: Task[Any], custom_id: str | None) -> NewEntry:
        name, label = self._name(type(item))
        body = self._facts.render(item.render(), model=self._model, endpoint=self._endpoint)
        return NewEntry(custom_id=custom_id, label=label, task=name, fields=item.dump_fields(), request=_text(body))


def request_json(value: Any) -> str:
    """Compact JSON text.

    Raises:
        RequestError: it has none: a lone surrogate or NaN, say, that no provider takes. One such line would cost the
            whole file.
    """
    text = _text(value)
    try:
        from_json(text, allow_inf_nan=False)  # `to_json` writes NaN, which is no JSON, as it is
    except ValueError as error:
        raise RequestError(f"The request has no JSON form: {error}") from None
    return text


def _text(value: Any) -> str:
    """Compact JSON text of what cannot hold NaN; a rendered prompt does not, for its numbers were checked."""
    try:
        return to_json(value).decode()
    except ValueError as error:
        raise RequestError(f"The request has no JSON form: {error}") from None


def _label(name: str) -> str:
    """What default custom ids begin with: short enough to leave room for the number."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:40]


async def iterate(items: Items) -> AsyncIterator[Item]:
    """Any iterable, synchronous or not."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
