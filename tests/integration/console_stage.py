"""A deployment to look at: a few batches in different states, and one full of texts that mean harm."""

import json
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from overnight.batches import BatchStatus, Cost, Outcome, Usage
from overnight.storage.results import Stray
from overnight.storage.store import Store
from tests.integration import campaign_rows
from tests.integration.rows import ROOM, accepted, block, each, filled, new_batch, new_entry, over, report, result

HARM = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'></pre></textarea>"
    "{{ 7 * 7 }} \u202eexe.gpj\u202c \x07 javascript:alert(1)"
)
HARMFUL_ID = "\"'><script>window.harmed = 3</script>"
LONG_WORD = "Donaudampfschiffahrt" * 40
PAGE = 50


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Batches by what is wrong with them."""

    pending: UUID
    running: UUID
    handled: UUID
    """120 entries; every tenth was errored."""
    harmful: UUID
    failed: UUID


def request_of(words: str) -> str:
    return json.dumps({"model": "m", "instructions": "Judge.", "input": words}, ensure_ascii=False)


def line_of(words: str) -> str:
    part = {"type": "output_text", "text": words, "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [part]}
    body = {"object": "response", "status": "completed", "output": [message]}
    return json.dumps({"custom_id": "x", "response": {"status_code": 200, "body": body}}, ensure_ascii=False)


async def handled(store: Store, count: int = 120) -> UUID:
    batch_id = await over(store, count)
    results = [
        result(n, line=line_of(f"answer {n}"))
        if n % 10
        else result(n, outcome=Outcome.ERRORED, error_code="overloaded", reason="too busy", line=None)
        for n in range(1, count + 1)
    ]
    await store.results.write(batch_id, block(results, to=10))
    await store.results.finish(batch_id, price_version="a price list")
    await store.outputs.finish(batch_id)
    return batch_id


async def harmful(store: Store) -> UUID:
    new = new_batch(handler=HARM, model=f"model {HARM}", metadata={HARM: [[HARM]]})
    entries = [
        new_entry(HARMFUL_ID, request=request_of(HARM), task=HARM, fields=json.dumps({"review": HARM})),
        new_entry("long", request=request_of(LONG_WORD)),
    ]
    await store.entries.create_filled(new, each(entries), ROOM)
    await store.batches.claim(new.id, f"batch-{new.id}")
    await store.submissions.current(new.id)
    await store.submissions.record_intent(new.id, None)
    await store.submissions.accept(new.id, report(provider_batch_id=f"<b>{new.id}"))
    ended = report(BatchStatus.ENDED, provider_batch_id=f"<b>{new.id}", failure_code="<i>", failure_reason=HARM)
    await store.batches.record_report(new.id, ended)
    cost = Cost(billed=Decimal("1.5"), list_price=Decimal(3))
    results = [
        result(1, line=line_of(HARM), cost=cost, usage=Usage(input_tokens=1_000, output_tokens=50)),
        result(2, outcome=Outcome.ERRORED, error_code=HARM[:80], reason=HARM, line=HARM.replace("\x07", "")),
    ]
    strays = [Stray(number=1, kind="malformed", custom_id=HARMFUL_ID, line=HARM.encode() + b"\x00\xff")]
    await store.results.write(new.id, block(results, to=10, strays=strays))
    await store.results.finish(new.id, price_version=None)
    await store.batches.record_error(new.id, HARM + LONG_WORD)
    await store.batches.note_trouble(new.id, HARM[:60], urgent=True)
    return new.id


async def campaign_in_its_second_round(store: Store) -> UUID:
    """Ten entries in batches of four; two were asked again, and that batch is in trouble, as the campaign is."""
    campaign_id = await campaign_rows.filled(
        store, 10, handler=HARM, model=f"model {HARM}", metadata={HARM: [[HARM]]}, max_cost=Decimal("0.25")
    )
    await store.campaigns.claim(campaign_id, f"campaign-{campaign_id}")
    first, *others = await store.campaigns.batches(campaign_id)
    failed = {1: (Outcome.ERRORED, "http_400"), 2: (Outcome.ERRORED, "http_500"), 3: (Outcome.MISSING, None)}
    for part in (first, *others):
        await campaign_rows.finish(store, part.id, failed if part is first else {})
    await campaign_rows.plan(store, campaign_id, 1)
    *_, again = await store.campaigns.batches(campaign_id)
    await store.batches.claim(again.id, f"batch-{again.id}")
    for table, row_id in ((store.batches, again.id), (store.campaigns, campaign_id)):
        await table.note_trouble(row_id, HARM[:60], urgent=True)
        await table.record_error(row_id, HARM + LONG_WORD)
    return campaign_id


async def many_campaigns(store: Store, count: int) -> None:
    """As `many_batches`: only their ids tell them apart."""
    for _ in range(count):
        await campaign_rows.new_campaign(store)
    async with store._engine.begin() as connection:
        await connection.execute(text("update overnight.campaigns set created_at = now() - interval '1 hour'"))


async def set_stage(store: Store) -> Stage:
    return Stage(
        pending=await filled(store),
        running=await accepted(store),
        handled=await handled(store),
        harmful=await harmful(store),
        failed=await over(store, 3, BatchStatus.FAILED, failure_code="bad_file", failure_reason="no JSON"),
    )


async def many_batches(store: Store, count: int) -> None:
    """All created at once, as far as the clock can tell: only their ids tell them apart."""
    for _ in range(count):
        await store.batches.create(new_batch())
    async with store._engine.begin() as connection:
        await connection.execute(text("update overnight.batches set created_at = now() - interval '1 hour'"))
