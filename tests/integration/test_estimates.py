"""What a batch will cost, from the requests that are stored and from what earlier ones came to."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from overnight.batches import BatchStatus, Cost, Usage
from overnight.costs import cost_of
from overnight.estimates import Estimate, estimate
from overnight.prices import PriceOverrides, read_overrides
from overnight.storage.store import Store
from tests.integration.rows import ROOM, block, each, new_batch, new_entry, result

MODEL = "gpt-4o-mini"
TEXT = "How does this reviewer feel about the product, and why?! " * 7


def request(text: str = TEXT, limit: int | None = 100, **more: Any) -> str:
    body = {"model": MODEL, "input": [{"role": "user", "content": text}], **more}
    return json.dumps(body | ({"max_output_tokens": limit} if limit else {}))


UNKNOWN = Cost(billed=None, list_price=None)
WEIGHT = len(TEXT) // 4 + 1 + 4


async def estimated(store: Store, *requests: str, overrides: PriceOverrides | None = None, **more: Any) -> Estimate:
    chosen = {name: more.pop(name) for name in ("provider", "model", "endpoint") if name in more}
    batch = new_batch(**{"model": MODEL, "endpoint": "/v1/responses"} | chosen)
    await store.entries.create_filled(batch, each(new_entry(request=text, **more) for text in requests), ROOM)
    return await estimate(store, await store.batches.get(batch.id), overrides or {})


async def answered(store: Store, usages: list[Usage], **more: Any) -> UUID:
    """A batch of the past, whose entries used so much."""
    batch = new_batch(**more)
    await store.entries.create_filled(batch, each(new_entry(request=request()) for _ in usages), ROOM)
    results = [result(position, usage=usage) for position, usage in enumerate(usages, start=1)]
    await store.batches.close(batch.id, BatchStatus.ENDED, code="over", reason="It is over.")
    await store.results.write(batch.id, block(results, to=10))
    await store.results.finish(batch.id, price_version="v")
    return batch.id


async def test_prompts_are_weighed_and_answers_bounded(store: Store) -> None:
    found = await estimated(store, request(), request(limit=50))
    assert (found.entries, found.input_tokens, found.input_tokens_at_most) == (2, 2 * WEIGHT, 4 * WEIGHT)
    assert (found.output_tokens, found.output_tokens_at_most) == (None, 150)
    prompts = cost_of(Usage(input_tokens=2 * WEIGHT), provider="openai", model=MODEL)
    most = cost_of(Usage(input_tokens=4 * WEIGHT, output_tokens=150), provider="openai", model=MODEL)
    assert (found.input_cost, found.cost, found.cost_at_most) == (prompts, UNKNOWN, most)
    assert most.billed * 2 == most.list_price
    assert "fewer than 20" in " ".join(found.unknown)


async def test_entries_that_were_answered_before_say_what_to_expect(store: Store) -> None:
    usages = [Usage(input_tokens=WEIGHT * 2, output_tokens=30)] * 15
    await answered(store, [*usages, *(replace(usage, input_tokens=WEIGHT * 3, output_tokens=10) for usage in usages)])
    found = await estimated(store, *[request()] * 4)
    assert (found.input_tokens, found.input_tokens_at_most) == (10 * WEIGHT, 12 * WEIGHT)
    assert (found.output_tokens, found.output_tokens_at_most) == (80, 400)
    expected = Usage(input_tokens=10 * WEIGHT, output_tokens=80)
    assert found.cost == cost_of(expected, provider="openai", model=MODEL)
    assert "The newest 30 entries of task 'Ask' had 2.50 times as many" in " ".join(found.how)
    assert found.unknown == []


async def test_entries_whose_texts_were_pruned_say_nothing_and_keep_nobody_from_estimating(store: Store) -> None:
    batch_id = await answered(store, [Usage(input_tokens=WEIGHT * 9, output_tokens=30)] * 20)
    await store.outputs.finish(batch_id)
    async with store.dispatches.attempt(batch_id) as dispatch:
        await dispatch.commit()
    await store.retention.prune(batch_id)
    assert (await estimated(store, request())).input_tokens_at_most == 2 * WEIGHT


async def test_no_answer_is_expected_to_be_longer_than_it_may_be(store: Store) -> None:
    await answered(store, [Usage(input_tokens=WEIGHT, output_tokens=1_000)] * 20)
    found = await estimated(store, request(limit=100), request(limit=None))
    assert (found.output_tokens, found.output_tokens_at_most) == (1_100, None)


@pytest.mark.parametrize(
    "elsewhere",
    [{"model": "gpt-4o"}, {"endpoint": "/v1/chat/completions"}, {"provider": "anthropic"}],
    ids=["model", "endpoint", "provider"],
)
async def test_what_others_were_answered_says_nothing(store: Store, elsewhere: dict[str, str]) -> None:
    await answered(store, [Usage(input_tokens=7, output_tokens=9)] * 30, **elsewhere)
    assert (await estimated(store, request())).cost == UNKNOWN


async def test_a_few_answers_and_those_of_another_task_say_nothing(store: Store) -> None:
    await answered(store, [Usage(input_tokens=7, output_tokens=9)] * 19)
    assert (await estimated(store, request())).cost == UNKNOWN
    await answered(store, [Usage(input_tokens=7, output_tokens=9)])
    assert (await estimated(store, request(), task="Another")).cost == UNKNOWN
    assert (await estimated(store, request())).cost != UNKNOWN


async def test_an_answer_without_a_limit_can_cost_anything(store: Store) -> None:
    found = await estimated(store, request(limit=None), request())
    assert (found.output_tokens_at_most, found.cost_at_most) == (None, UNKNOWN)
    assert "1 of the requests set no limit" in " ".join(found.unknown)


async def test_images_are_said_to_be_left_out(store: Store) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    text = {"type": "input_text", "text": TEXT}
    found = await estimated(store, request(), request(input=[{"role": "user", "content": [text, image]}]))
    assert (found.input_tokens, found.input_tokens_at_most) == (2 * WEIGHT, None)
    assert (found.cost_at_most, found.input_cost.billed is None) == (UNKNOWN, False)
    assert "The tokens of images: 1 of the entries have some." in found.unknown


async def test_what_images_cost_at_most_is_known_where_the_provider_says_so(store: Store) -> None:
    claude = {"provider": "anthropic", "model": "claude-haiku-4-5", "endpoint": "/v1/messages"}
    image, text = {"type": "image", "source": {"type": "url", "url": "u"}}, {"type": "text", "text": TEXT}
    asked = request(max_tokens=50, messages=[{"role": "user", "content": [image, text, image]}])
    found = await estimated(store, asked, **claude)
    assert (found.input_tokens, found.input_tokens_at_most) == (WEIGHT, 2 * WEIGHT + 2 * 4_800)
    most = Usage(input_tokens=2 * WEIGHT + 2 * 4_800, output_tokens=50)
    assert found.cost_at_most == cost_of(most, provider="anthropic", model="claude-haiku-4-5")
    assert "The tokens of images, but for how many they are at most: 1 of the entries have some." in found.unknown


async def test_a_model_without_a_price_has_tokens_and_no_cost(store: Store) -> None:
    found = await estimated(store, request(), model="gpt-404")
    assert (found.input_tokens, found.output_tokens_at_most) == (WEIGHT, 100)
    assert found.input_cost == found.cost == found.cost_at_most == UNKNOWN
    assert found.unknown[0].startswith("What gpt-404 costs: genai-prices")


async def test_own_prices_are_used_and_named(store: Store) -> None:
    own = read_overrides({"openai": {"gpt-404": {"input": 4, "output": 8}}})
    found = await estimated(store, request(), model="gpt-404", overrides=own)
    assert found.input_cost.billed == Decimal(WEIGHT) * 2 / 1_000_000
    assert found.cost_at_most.billed == (Decimal(2 * WEIGHT) * 2 + 100 * 4) / 1_000_000
    assert "Prices: OVERNIGHT_PRICES" in " ".join(found.how)


async def test_a_prompt_that_is_to_be_cached_costs_nobody_knows_what_without_a_price_for_that(store: Store) -> None:
    own: dict[str, dict[str, dict[str, int]]] = {"anthropic": {"claude-mine": {"input": 4, "output": 8}}}
    system = [{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}]
    body = {"model": "claude-mine", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    found = {}
    for kind, more in {"plain": {}, "cached": {"system": system}}.items():
        batch = new_batch(provider="anthropic", model="claude-mine", endpoint="/v1/messages")
        await store.entries.create_filled(batch, each([new_entry(request=json.dumps(body | more))]), ROOM)
        found[kind] = await estimate(store, await store.batches.get(batch.id), read_overrides(own))
    assert found["plain"].cost_at_most.billed is not None
    assert found["cached"].cost_at_most == UNKNOWN
    assert "cache" in " ".join(found["cached"].unknown)


async def test_embeddings_have_no_answer_that_costs(store: Store) -> None:
    body = json.dumps({"model": "text-embedding-3-small", "input": "x" * 400})
    found = await estimated(store, body, model="text-embedding-3-small", endpoint="/v1/embeddings")
    assert (found.input_tokens, found.output_tokens, found.output_tokens_at_most) == (100, 0, 0)
    assert found.cost == found.input_cost
    assert found.cost.billed is not None


async def test_a_prompt_beyond_the_length_where_prices_rise_is_priced_so(store: Store) -> None:
    found = await estimated(store, request("word " * 250_000), model="gpt-5.4")
    usage = Usage(input_tokens=found.input_tokens)
    assert found.input_tokens > 272_000
    assert found.input_cost == cost_of(usage, provider="openai", model="gpt-5.4")


async def test_no_entries_cost_nothing(store: Store) -> None:
    batch = await store.batches.create(new_batch())
    found = await estimate(store, batch, {})
    assert (found.entries, found.cost_at_most.billed, found.cost.billed) == (0, 0, 0)
