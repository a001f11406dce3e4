"""What a batch will cost, said before it is sent.

Nobody but the provider knows its tokenizer, so prompts are weighed by their bytes, and held against what the provider
counted for entries like them: the same Task, model and endpoint, in this database. How long the answers will be only
the past can say; `max_tokens` says how long they can become. Each figure comes with how it was made, and with what it
leaves out.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil
from uuid import UUID

from pydantic_core import from_json

from overnight.batches import Batch, Cost, Usage
from overnight.campaigns import Campaign
from overnight.costs import UNKNOWN, Tariff, Tier, tariff
from overnight.errors import CostLimitError
from overnight.prices import PriceOverrides
from overnight.providers import provider_facts
from overnight.providers.weight import PROVIDER_TOOLS, RequestWeight
from overnight.storage.batches import NewBatch
from overnight.storage.past import PastEntry
from overnight.storage.store import Store

# With fewer entries to go by, a single odd one would decide.
_ENOUGH = 20

# How far above its weight a prompt can come out. Prose stays below 1.4; tables of digits and base64 come near 2.
_MARGIN = 2.0

Estimated = Batch | NewBatch | Campaign
"""What can be estimated: its provider, model and endpoint count."""

_NOTHING = Cost(billed=Decimal(0), list_price=Decimal(0))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a batch will use and cost, as far as that can be known beforehand.

    Attributes:
        input_tokens: of all prompts, as expected.
        input_tokens_at_most: with a margin, for bytes say little about tokens; None where there is something in them
            that nobody can bound.
        output_tokens: as expected from earlier answers; None where there are too few.
        output_tokens_at_most: by the limits that the requests set; None where one sets none.
        input_cost: of the prompts alone, as expected.
        cost: of prompts and answers, as expected. Like every amount, it is None where it cannot be known.
        cost_at_most: if every prompt comes out long and every answer as long as it may.
        how: how this was made, in sentences.
        unknown: what these figures leave out, in sentences; empty where nothing is known to be left out.
    """

    entries: int
    input_tokens: int
    input_tokens_at_most: int | None
    output_tokens: int | None
    output_tokens_at_most: int | None
    input_cost: Cost
    cost: Cost
    cost_at_most: Cost
    how: Sequence[str]
    unknown: Sequence[str]


@dataclass(kw_only=True)
class _Past:
    """What was counted for entries of one Task, and what we would have said."""

    count: int = 0
    weighed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    furthest: float = 0.0

    def add(self, weight: RequestWeight, entry: PastEntry) -> None:
        self.count += 1
        self.weighed += weight.tokens
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self.furthest = max(self.furthest, entry.input_tokens / max(weight.tokens, 1))

    @property
    def suffices(self) -> bool:
        return self.count >= _ENOUGH

    def expected(self, weight: RequestWeight) -> int:
        return ceil(weight.tokens * self.input_tokens / max(self.weighed, 1)) if self.suffices else weight.tokens

    def at_most(self, weight: RequestWeight) -> int:
        return ceil(weight.tokens * (self.furthest if self.suffices else _MARGIN)) + (weight.uncounted_at_most or 0)

    def answer(self, weight: RequestWeight) -> int | None:
        if weight.max_output_tokens == 0:
            return 0
        if not self.suffices:
            return None
        expected = ceil(self.output_tokens / self.count)
        return expected if weight.max_output_tokens is None else min(expected, weight.max_output_tokens)


_NO_PAST = _Past()


class _Sum:
    """Tokens of requests so far, apart by the tier that they are priced in; money is made of them at the end."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._tiers: defaultdict[Tier | None, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, prompt: int, answer: int = 0) -> None:
        tokens = self._tiers[self._tariff.tier_of(prompt)]
        tokens[0] += prompt
        tokens[1] += answer

    @property
    def cost(self) -> Cost:
        return self._cost(lambda prompt: [Usage(input_tokens=prompt)])

    @property
    def cost_if_cached(self) -> Cost:
        """At the dearest of what a prompt can cost: plain, written to the cache, or written to it for an hour."""
        return self._cost(
            lambda prompt: [
                Usage(input_tokens=prompt),
                Usage(input_tokens=prompt, cache_write_tokens=prompt),
                Usage(input_tokens=prompt, cache_write_tokens=prompt, cache_write_1h_tokens=prompt),
            ]
        )

    @property
    def prices_caches(self) -> bool:
        """Whether it is known what all of that costs."""
        rates = [tier.billed for tier in self._tiers if tier is not None]
        return all(None not in (known.cache_write, known.cache_write_1h) for known in rates)

    def _cost(self, possible: Callable[[int], Sequence[Usage]]) -> Cost:
        total = _NOTHING
        for tier, (prompt, answer) in self._tiers.items():
            if tier is None:
                return UNKNOWN
            costs = [tier.cost_of(replace(usage, output_tokens=answer)) for usage in possible(prompt)]
            total = _plus(total, max(costs, key=lambda cost: cost.billed or 0))
        return total


def _plus(one: Cost, other: Cost) -> Cost:
    if one.billed is None or one.list_price is None or other.billed is None or other.list_price is None:
        return UNKNOWN
    return Cost(billed=one.billed + other.billed, list_price=one.list_price + other.list_price)


class Estimator:
    """Adds a batch or a campaign up, entry by entry."""

    def __init__(self, batch: Estimated, tariff: Tariff, past: Mapping[str | None, _Past]) -> None:
        self._batch, self._tariff, self._past = batch, tariff, past
        self._facts = provider_facts(batch.provider)
        self._entries = self._input = self._input_at_most = 0
        self._output = self._output_at_most = self._unforeseen = self._unbounded = self._unbounded_prompts = 0
        self._prompts, self._expected, self._at_most, self._at_most_cached = (_Sum(tariff) for _ in range(4))
        self._asked_to_cache = _Sum(tariff)
        self._uncounted: Counter[str] = Counter()
        self._tasks: Counter[str | None] = Counter()

    def add(self, task: str | None, request: str) -> None:
        weight = self._facts.weigh(from_json(request), endpoint=self._batch.endpoint)
        past = self._past_of(task)
        prompt, answer = past.expected(weight), past.answer(weight)
        self._entries += 1
        self._tasks[task] += 1
        self._input += prompt
        self._output += answer or 0
        self._unforeseen += answer is None
        self._prompts.add(prompt)
        self._expected.add(prompt, answer or 0)
        self._bound(weight, past.at_most(weight))

    def _bound(self, weight: RequestWeight, prompt: int) -> None:
        self._uncounted.update(weight.uncounted)
        self._unbounded_prompts += weight.uncounted_at_most is None
        self._unbounded += weight.max_output_tokens is None
        self._input_at_most += prompt
        self._output_at_most += weight.max_output_tokens or 0
        sums = self._at_most_cached if weight.may_write_cache else self._at_most
        sums.add(prompt, weight.max_output_tokens or 0)
        if weight.asks_for_cache:
            self._asked_to_cache.add(prompt)

    def result(self) -> Estimate:
        """What has been added up."""
        return Estimate(
            entries=self._entries,
            input_tokens=self._input,
            input_tokens_at_most=None if self._unbounded_prompts else self._input_at_most,
            output_tokens=None if self._unforeseen else self._output,
            output_tokens_at_most=None if self._unbounded else self._output_at_most,
            input_cost=self._prompts.cost,
            cost=UNKNOWN if self._unforeseen or self._uncounted[PROVIDER_TOOLS] else self._expected.cost,
            cost_at_most=self._cost_at_most,
            how=[*self._how()],
            unknown=[*self._unknown()],
        )

    @property
    def _cost_at_most(self) -> Cost:
        if self._unbounded or self._unbounded_prompts or not self._asked_to_cache.prices_caches:
            return UNKNOWN
        return _plus(self._at_most.cost, self._at_most_cached.cost_if_cached)

    def _how(self) -> Iterator[str]:
        yield (
            "A prompt has one token per 4 bytes of text and JSON schema, and 4 per message; at most twice as many, "
            "where no earlier entries say better."
        )
        yield from (self._seen(task) for task in self._tasks if self._past_of(task).suffices)
        yield "An answer is at most as long as its request allows. Nothing is taken off for prompts from the cache."
        yield f"Prices: {self._tariff.version}."

    def _seen(self, task: str | None) -> str:
        past = self._past_of(task)
        ratio, answer = past.input_tokens / max(past.weighed, 1), past.output_tokens / past.count
        return (
            f"The newest {past.count} entries of {_named(task)} had {ratio:.2f} times as many (at most "
            f"{past.furthest:.2f} times), and {answer:.0f} tokens of answer each."
        )

    def _past_of(self, task: str | None) -> _Past:
        return self._past.get(task, _NO_PAST)

    def _unknown(self) -> Iterator[str]:
        if not self._tariff.tiers:
            yield f"What {self._batch.model} costs: {self._tariff.version} has no price per token of it."
        elif not self._asked_to_cache.prices_caches:
            yield f"What it costs to write to the cache: {self._tariff.version} has no price of it."
        for what, count in sorted(self._uncounted.items()):
            fees = ", and its fees for their calls" if what == PROVIDER_TOOLS else ""
            bounded = "" if self._unbounded_prompts else ", but for how many they are at most"
            yield f"The tokens of {what}{fees}{bounded}: {count} of the entries have some."
        for task in self._tasks:
            if self._unforeseen and not self._past_of(task).suffices:
                yield f"How long the answers will be of {_named(task)}: fewer than {_ENOUGH} were seen before."
        if self._unbounded:
            yield f"How long answers can become: {self._unbounded} of the requests set no limit (max_tokens)."


def _named(task: str | None) -> str:
    return f"task {task!r}" if task else "raw requests"


async def _past(store: Store, batch: Estimated) -> Mapping[str | None, _Past]:
    facts = provider_facts(batch.provider)
    past: defaultdict[str | None, _Past] = defaultdict(_Past)
    async for entry in store.past.sample(provider=batch.provider, model=batch.model, endpoint=batch.endpoint):
        past[entry.task].add(facts.weigh(from_json(entry.request), endpoint=batch.endpoint), entry)
    return past


async def estimate(store: Store, batch: Batch | Campaign, overrides: PriceOverrides) -> Estimate:
    """Weigh every entry of a batch, or those that were added to a campaign. They are streamed, so it takes no memory to
    speak of, and some seconds for 100,000.

    Args:
        store: where the entries are, and those of earlier batches.
        batch: which batch or campaign.
        overrides: prices of the deployment's own.
    """
    parts = [batch] if isinstance(batch, Batch) else await store.campaigns.batches(batch.id)
    requests = _requests(store, [part.id for part in parts if part.round in {None, 1}])
    return await estimate_requests(store, batch, requests, overrides)


async def _requests(store: Store, batch_ids: Sequence[UUID]) -> AsyncIterator[tuple[str | None, str]]:
    for batch_id in batch_ids:
        async for page in store.entries.requests(batch_id):
            for task_and_request in page:
                yield task_and_request


async def estimate_requests(
    store: Store | None,
    batch: Estimated,
    requests: AsyncIterable[tuple[str | None, str]],
    overrides: PriceOverrides,
) -> Estimate:
    """The same for requests that need not be in the database: each one's Task and body.

    Args:
        store: where entries of earlier batches are; without one nothing is known of any.
        batch: the batch to be.
        requests: its entries.
        overrides: prices of the deployment's own.
    """
    adding = await estimator(store, batch, overrides)
    async for task, request in requests:
        adding.add(task, request)
    return adding.result()


async def estimator(store: Store | None, batch: Estimated, overrides: PriceOverrides) -> Estimator:
    """One that has seen nothing yet but what is known of earlier entries."""
    prices = tariff(batch.provider, batch.model, overrides=overrides)
    return Estimator(batch, prices, await _past(store, batch) if store else {})


async def seal_within_cost(
    store: Store, batch_id: UUID, overrides: PriceOverrides, *, filling_token: UUID | None = None
) -> tuple[Batch, bool]:
    """Close a batch to further entries, unless it could cost more than its `max_cost`. Whoever closes a batch has
    checked exactly the entries that are in it: should some have been added meanwhile, it is checked again.

    Raises:
        BatchTakenOverError: somebody else fills it anew.
        CostLimitError: it could cost more, or nobody can say how much; it stays as it is.
        EmptyBatchError: it has no entries.
        UnknownBatchError: there is no such batch.
    """
    while True:
        batch = await store.batches.get(batch_id)
        if batch.max_cost is None or batch.sealed_at is not None:
            return await store.batches.seal(batch_id, filling_token=filling_token)
        check_max_cost(batch, batch.max_cost, await estimate(store, batch, overrides))
        sealed, first = await store.batches.seal(batch_id, entry_count=batch.entry_count, filling_token=filling_token)
        if sealed.sealed_at is not None:
            return sealed, first


def check_max_cost(batch: Batch | Campaign, max_cost: Decimal, found: Estimate) -> None:
    """Refuse what could cost more than its owner allows, or nobody knows how much.

    Raises:
        CostLimitError: with the figure, or with what is not known.
    """
    at_most = found.cost_at_most.billed
    if at_most is None or at_most > max_cost:
        what = "batch" if isinstance(batch, Batch) else "campaign"
        raise CostLimitError(batch.id, max_cost, at_most, found.unknown, what=what)
