"""The web console on a real database: what its pages say, and what they let nobody do."""

import html
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.batches import Cost, Outcome
from overnight.campaigns import Campaign
from overnight.console.addresses import TemporalUi
from overnight.console.app import console_app
from overnight.errors import DatabaseError
from overnight.storage import console
from overnight.storage.console_values import BatchChoice
from overnight.storage.store import Store
from tests.integration.campaign_rows import filled, new_campaign
from tests.integration.console_stage import (
    HARM,
    HARMFUL_ID,
    Stage,
    campaign_in_its_second_round,
    many_batches,
    many_campaigns,
    set_stage,
)
from tests.integration.rows import ROOM, each, new_batch, new_entry


@pytest.fixture
async def client(store: Store) -> AsyncIterator[AsyncClient]:
    ui = TemporalUi(base_url="http://localhost:8233", namespace="default")
    app = console_app(store.console, hosts=["localhost"], temporal_ui=ui)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def stage(store: Store) -> Stage:
    return await set_stage(store)


@pytest.fixture
async def campaign_id(store: Store) -> UUID:
    return await campaign_in_its_second_round(store)


def rows(page: Response) -> list[str]:
    """Where the rows of a table lead to."""
    return re.findall(r'<a class="row" href="([^"]+)"', page.text)


def link(page: Response, relation: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" rel="{relation}"', page.text)
    return html.unescape(found[1]) if found else None


async def walked(client: AsyncClient, start: str, relation: str) -> list[list[str]]:
    """The rows of each page, from one to the last in a direction."""
    pages: list[list[str]] = []
    address: str | None = start
    while address is not None:
        page = await client.get(address)
        assert page.status_code == 200
        pages.append(rows(page))
        address = link(page, relation)
    return pages


async def test_pages_of_batches_hold_each_batch_once_in_both_directions(store: Store, client: AsyncClient) -> None:
    await many_batches(store, 120)
    forth = await walked(client, "/", "next")
    assert [len(page) for page in forth] == [50, 50, 20]
    assert len({row for page in forth for row in page}) == 120
    last = await client.get("/")
    while (following := link(last, "next")) is not None:
        last = await client.get(following)
    back = await walked(client, str(last.url), "prev")
    assert back == forth[::-1]


async def test_filters_leave_the_batches_that_fit(client: AsyncClient, stage: Stage) -> None:
    plain = {stage.pending, stage.running, stage.handled, stage.failed}
    expected = {
        "status=pending": {stage.pending},
        "status=failed": {stage.failed},
        "only=open": {stage.running, stage.handled, stage.harmful, stage.failed},
        "only=troubled": {stage.harmful},
        "provider=openai&model=gpt-4o-mini": plain,
        "handler=" + quote(HARM): {stage.harmful},
        "model=none": set(),
    }
    for query, batches in expected.items():
        page = await client.get(f"/?{query}")
        assert set(rows(page)) == {f"/batches/{batch_id}" for batch_id in batches}, query
        assert ("No batch fits these filters" in page.text) is not bool(batches)


async def test_lost_results_are_somebodys_affair_when_everything_else_is_over(
    client: AsyncClient, stage: Stage, engine: AsyncEngine
) -> None:
    lost = "update overnight.batches set results_lost_at = now(), handler_dispatched_at = now() where id = :id"
    async with engine.begin() as connection:
        await connection.execute(text(lost), {"id": stage.handled})
    page = await client.get("/?only=troubled")
    assert set(rows(page)) == {f"/batches/{batch_id}" for batch_id in (stage.harmful, stage.handled)}
    assert "results lost" in page.text
    assert ">2 in trouble<" in (await client.get("/")).text
    assert "Results lost" in (await client.get(f"/batches/{stage.handled}")).text


async def test_pages_of_entries_hold_each_entry_once_in_both_directions(client: AsyncClient, stage: Stage) -> None:
    path = f"/batches/{stage.handled}/entries"
    forth = await walked(client, path, "next")
    assert [int(row.rpartition("/")[2]) for page in forth for row in page] == list(range(1, 121))
    back = await walked(client, f"{path}?after=100", "prev")
    assert back == [[f"{path}/{n}" for n in page] for page in (range(101, 121), range(51, 101), range(1, 51))]


async def test_the_last_page_is_one_step_away_and_the_first_is_always_full(client: AsyncClient, stage: Stage) -> None:
    path = f"/batches/{stage.handled}/entries"
    assert rows(await client.get(f"{path}?before=121")) == [f"{path}/{n}" for n in range(71, 121)]
    assert rows(await client.get(f"{path}?before=11")) == [f"{path}/{n}" for n in range(1, 51)]


async def test_entries_of_one_outcome_are_shown_alone(client: AsyncClient, stage: Stage) -> None:
    path = f"/batches/{stage.handled}/entries"
    page = await client.get(f"{path}?outcome=errored")
    assert rows(page) == [f"{path}/{n}" for n in range(10, 121, 10)]
    assert "too busy" in page.text
    assert rows(await client.get(f"{path}?outcome=errored&after=100")) == [f"{path}/{n}" for n in (110, 120)]
    assert "No entry of this batch is expired." in (await client.get(f"{path}?outcome=expired")).text


async def test_a_batch_shows_counts_costs_and_what_went_wrong(client: AsyncClient, stage: Stage) -> None:
    page = (await client.get(f"/batches/{stage.handled}")).text
    assert re.search(r"succeeded</span></a></th>\s*<td class=\"n\">108</td>", page)
    assert "90.0 %" in page
    assert "$0.0001" in page
    assert f"http://localhost:8233/namespaces/default/workflows/batch-{stage.handled}" in page
    assert "a price list" in page
    failed = (await client.get(f"/batches/{stage.failed}")).text
    assert "bad_file" in failed
    assert "no JSON" in failed


async def test_a_batch_that_is_not_over_says_what_it_waits_for(client: AsyncClient, stage: Stage) -> None:
    assert "nothing is sent before" in (await client.get(f"/batches/{stage.pending}")).text
    assert "waiting" in (await client.get(f"/batches/{stage.running}")).text


async def test_an_entry_shows_prompt_answer_and_texts(client: AsyncClient, stage: Stage) -> None:
    page = (await client.get(f"/batches/{stage.handled}/entries/7")).text
    assert "answer 7" in page
    assert "Response as received" in page
    errored = (await client.get(f"/batches/{stage.handled}/entries/10")).text
    assert "too busy" in errored
    assert "The provider gave none." in errored


async def test_search_leads_to_batches_and_entries(client: AsyncClient, stage: Stage) -> None:
    for wanted in (str(stage.failed), f"batch-{stage.failed}", f"provider-{stage.failed}"):
        answer = await client.get("/search", params={"q": f" {wanted} "})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{stage.failed}")
    hits = rows(await client.get("/search", params={"q": "Ask-3"}))
    assert set(hits) == {
        f"/batches/{it}/entries/3" for it in (stage.pending, stage.running, stage.handled, stage.failed)
    }
    assert "Nothing is called exactly that" in (await client.get("/search", params={"q": "Ask-999\x00"})).text


async def test_a_custom_id_is_found_within_its_batch(client: AsyncClient, stage: Stage) -> None:
    path = f"/batches/{stage.harmful}/entries"
    found = await client.get(path, params={"custom_id": HARMFUL_ID})
    assert found.headers["location"] == f"{path}/1"
    missing = await client.get(path, params={"custom_id": HARM})
    assert "No entry of this batch has the custom id" in missing.text
    assert "<script>window" not in missing.text


async def test_pages_of_campaigns_hold_each_campaign_once_in_both_directions(store: Store, client: AsyncClient) -> None:
    assert "There are no campaigns yet." in (await client.get("/campaigns")).text
    await many_campaigns(store, 30)
    forth = await walked(client, "/campaigns", "next")
    assert [len(page) for page in forth] == [25, 5]
    assert len({row for page in forth for row in page}) == 30
    following = link(await client.get("/campaigns"), "next")
    assert following is not None
    assert await walked(client, following, "prev") == forth[::-1]


async def test_filters_leave_the_campaigns_that_fit(store: Store, client: AsyncClient, campaign_id: UUID) -> None:
    pending = await filled(store, 3)
    expected = {
        "": {campaign_id, pending},
        "status=pending": {pending},
        "only=open": {campaign_id},
        "only=troubled": {campaign_id},
        "handler=" + quote(HARM): {campaign_id},
        "provider=openai&model=gpt-4o-mini": {pending},
        "model=none": set(),
    }
    for query, campaigns in expected.items():
        page = await client.get(f"/campaigns?{query}")
        assert set(rows(page)) == {f"/campaigns/{found}" for found in campaigns}, query
        assert ("No campaign fits these filters" in page.text) is not bool(campaigns)


async def test_a_campaign_needs_attention_for_its_own_sake_and_for_a_batch_of_its(
    store: Store, client: AsyncClient, campaign_id: UUID, engine: AsyncEngine
) -> None:
    async def troubled() -> tuple[bool, bool]:
        page = (await client.get("/campaigns")).text
        return ">1 in trouble</a>" in page, ">1 in trouble</span>" in page

    own, *_, again = [campaign_id, *(part.id for part in await store.campaigns.batches(campaign_id))]
    assert await troubled() == (True, False)  # its own trouble is said instead
    await store.campaigns.clear_trouble(own)
    assert await troubled() == (True, True)
    await store.batches.clear_trouble(again)
    assert await troubled() == (False, False)
    assert rows(await client.get("/campaigns?only=troubled")) == []
    async with engine.begin() as connection:
        forgotten = "update overnight.campaigns set workflow_id = null, sealed_at = now() - interval '1 hour'"
        await connection.execute(text(forgotten))
    assert "no workflow" in (await client.get("/campaigns?only=troubled")).text
    assert "overnight doctor --fix" in (await client.get(f"/campaigns/{campaign_id}")).text


async def test_the_sums_of_a_campaign_are_those_that_its_handle_has(
    store: Store, campaign_id: UUID, engine: AsyncEngine
) -> None:
    async def check() -> Campaign:
        known = replace(await store.campaigns.get(campaign_id), metadata={})
        shown = await store.console.campaigns.get(campaign_id)
        (listed,) = (await store.console.campaigns.page(BatchChoice(), edge=None, size=5)).items
        assert shown.campaign == known
        assert (listed.tally, listed.tally.latest) == (shown.tally, known.outcomes)
        return known

    known = await check()
    assert (known.outcomes, known.asked_again) == ({Outcome.SUCCEEDED: 7, Outcome.ERRORED: 1}, 2)
    assert known.cost.billed == Decimal("0.000009")
    rounds = (await store.console.campaigns.get(campaign_id)).rounds
    assert [(number, one.entries, one.over, one.read) for number, one in rounds.items()] == [
        (1, 10, 3, 3),
        (2, 2, 0, 0),
    ]
    assert rounds[1].retried == {Outcome.ERRORED: 1, Outcome.MISSING: 1}
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.batches set list_cost = null where number = 2"))
    assert (await check()).cost == Cost(billed=None, list_price=None)
    empty = await new_campaign(store)
    shown = await store.console.campaigns.get(empty)
    assert (shown.campaign, shown.rounds) == (replace(await store.campaigns.get(empty), metadata={}), {})


async def test_a_campaign_shows_its_rounds_and_leads_to_its_batches(
    store: Store, client: AsyncClient, campaign_id: UUID
) -> None:
    path = f"/campaigns/{campaign_id}"
    parts = [f"/batches/{part.id}" for part in await store.campaigns.batches(campaign_id)]
    page = await client.get(path)
    assert rows(page) == [f"{path}?round=1#batches", f"{path}?round=2#batches", *parts]
    assert f"http://localhost:8233/namespaces/default/workflows/campaign-{campaign_id}" in page.text
    assert "$0.2500" in page.text
    assert "so far of 3 of 4 batches" in page.text
    assert re.search(r"succeeded</span></th><td class=\"n\">7</td><td class=\"n quiet\">70.0 %", page.text)
    assert re.search(r"open</span></th><td class=\"n\">2</td>", page.text)
    for query, expected in {
        "round=2": parts[3:],
        "round=1&status=ended": parts[:3],
        "only=troubled": parts[3:],
        "only=open": parts[3:],
        "round=7": [],
        "after=1": parts[1:],
    }.items():
        assert rows(await client.get(f"{path}?{query}"))[2:] == expected, query
    assert f'href="{path}"' in (await client.get(parts[0])).text


async def test_pages_of_a_campaigns_batches_follow_each_other(
    client: AsyncClient, campaign_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.console.pages._BATCHES", 3)
    path = f"/campaigns/{campaign_id}"
    first = await client.get(path)
    following = link(first, "next")
    assert following == f"{path}?after=3#batches"
    second = await client.get(following)
    assert link(second, "prev") == f"{path}?before=4#batches"
    assert (len(rows(first)), len(rows(second))) == (2 + 3, 2 + 1)
    assert rows(await client.get(f"{path}?before=3")) == rows(first)


async def test_a_campaign_that_takes_entries_and_a_round_that_was_skipped_say_so(
    store: Store, client: AsyncClient, campaign_id: UUID, engine: AsyncEngine
) -> None:
    page = (await client.get(f"/campaigns/{await new_campaign(store)}")).text
    assert "nothing is sent before" in page
    assert "There are none yet." in page
    async with engine.begin() as connection:
        await connection.execute(text("update overnight.campaigns set skipped_round = 'Too dear.'"))
    assert "A further round was due, and not asked." in (await client.get(f"/campaigns/{campaign_id}")).text


async def test_search_leads_to_campaigns(client: AsyncClient, campaign_id: UUID) -> None:
    for wanted in (str(campaign_id), f"campaign-{campaign_id}"):
        answer = await client.get("/search", params={"q": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign_id}")


async def test_costs_are_summed_by_day_model_and_handler_and_what_is_not_known_is_said(
    client: AsyncClient, store: Store, stage: Stage, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        unknown = "update overnight.batches set ingested_at = now() where id = :id"
        await connection.execute(text(unknown), {"id": stage.failed})
        old = "update overnight.batches set created_at = now() - interval '40 days' where id = :id"
        await connection.execute(text(old), {"id": stage.handled})
    spendings = await store.console.spendings(datetime.now(UTC) - timedelta(days=30))
    assert (spendings.total.batches, spendings.total.unpriced, spendings.total.billed) == (4, 1, Decimal("1.500001"))
    assert sum(spending.batches for spending in spendings.days.values()) == 4
    assert next(iter(spendings.handlers)) == HARM
    page = (await client.get("/costs")).text
    assert "$1.50" in page
    assert "1 batches, in no sum here" in page
    assert (await store.console.spendings(datetime.now(UTC) - timedelta(days=90))).total.batches == 5


async def test_costs_without_batches_say_where_to_look(client: AsyncClient) -> None:
    assert "Look back a year" in (await client.get("/costs")).text
    assert "There are no batches yet." in (await client.get("/")).text


async def test_foreign_texts_are_never_markup(client: AsyncClient, stage: Stage, campaign_id: UUID) -> None:
    own = ["", "/entries", "/entries?outcome=errored", "/entries/1", "/entries/2", "/strays"]
    of_campaigns = ["/campaigns", f"/campaigns/{campaign_id}"]
    for path in ("/", "/costs", *of_campaigns, *(f"/batches/{stage.harmful}{path}" for path in own)):
        page = (await client.get(path)).text
        assert "&lt;script&gt;window" in page, path
        assert set(re.findall(r"<(script|img|b|i)\b", page)) == {"script"}
        assert page.count("<script") == 1
        shown = re.sub(r'<option value="[^"]*"', "<option", page)  # what a form sends is not what it shows
        assert not re.search(r"[\u202a-\u202e\x07]", shown), path
        assert " 49 " not in page
    assert "U+202E" in (await client.get(f"/batches/{stage.harmful}/entries/1")).text


async def test_every_page_has_the_headers_that_allow_next_to_nothing(client: AsyncClient, stage: Stage) -> None:
    for path in ("/", "/costs", f"/batches/{stage.harmful}/entries/1", "/nothing", "/?status=x"):
        headers = (await client.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"


class Attributes(HTMLParser):
    """All attributes of a page's tags, and the names of its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: dict[str, set[str]] = defaultdict(set)
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.found[name].add(value or "")


async def test_no_page_brings_a_style_or_a_script_of_its_own(
    client: AsyncClient, stage: Stage, campaign_id: UUID
) -> None:
    of_campaigns = ["/campaigns", f"/campaigns/{campaign_id}"]
    for path in ("/", "/costs", *of_campaigns, f"/batches/{stage.harmful}", f"/batches/{stage.harmful}/entries/1"):
        page = Attributes((await client.get(path)).text)
        assert not page.tags & {"style", "img", "iframe", "object", "base"}
        assert not [name for name in page.found if name == "style" or name.startswith("on")]
        assert page.found["src"] == {"/static/keys.js"}
        assert all(address.startswith(("/", "#", "http://localhost:8233/")) for address in page.found["href"])


async def test_a_whole_text_is_plain_text_and_in_one_piece(
    client: AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = '{"input": "' + "häß" * 3_000 + '<script>"}'
    new = new_batch()
    await store.entries.create_filled(new, each([new_entry("a", request=request)]), ROOM)
    monkeypatch.setattr(console, "SLICE", 1_000)
    monkeypatch.setattr("overnight.console.pages.SLICE", 1_000)
    answer = await client.get(f"/batches/{new.id}/entries/1/request.txt")
    assert answer.text == request
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    monkeypatch.setattr("overnight.console.pages._SLICES", 2)
    cut = (await client.get(f"/batches/{new.id}/entries/1/request.txt")).text
    assert cut.startswith(request[:2_000] + "\n[Cut here")


async def test_a_long_text_is_cut_on_the_page(client: AsyncClient, store: Store) -> None:
    new = new_batch()
    request = '{"input": "' + "x" * 3_000_000 + '"}'
    await store.entries.create_filled(new, each([new_entry("a", request=request)]), ROOM)
    page = await client.get(f"/batches/{new.id}/entries/1")
    assert len(page.text) < 200_000
    assert "3.0 MB" in page.text


async def test_deep_json_is_shown_like_any_other(client: AsyncClient, store: Store, engine: AsyncEngine) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    new = new_batch()
    await store.entries.create_filled(new, each([new_entry("a", request=deep, fields=deep)]), ROOM)
    async with engine.begin() as connection:
        deeper = "update overnight.batches set metadata = cast(:deep as jsonb) where id = :id"
        await connection.execute(text(deeper), {"deep": '{"a":' + deep[1_000:-1_000] + "}", "id": new.id})
    for path in ("", "/entries", "/entries/1", "/entries/1/fields.txt"):
        assert (await client.get(f"/batches/{new.id}{path}")).status_code == 200


async def test_a_stray_line_is_given_byte_by_byte(client: AsyncClient, stage: Stage) -> None:
    page = await client.get(f"/batches/{stage.harmful}/strays")
    (address,) = rows(page)
    answer = await client.get(html.unescape(address))
    assert answer.content == HARM.encode() + b"\x00\xff"
    assert answer.headers["content-type"].startswith("text/plain")
    assert "every line that the provider gave was" in (await client.get(f"/batches/{stage.handled}/strays")).text


ADDRESSES = {
    "/nothing": 404,
    "/batches/7": 404,
    "/batches/{unknown}": 404,
    "/batches/{unknown}/entries": 404,
    "/batches/{pending}/entries/4": 404,
    "/batches/{pending}/entries/0": 404,
    "/batches/{pending}/entries/99999999999999999999": 400,
    "/batches/{pending}/entries/1/password.txt": 404,
    "/batches/{pending}/entries/1/output.txt": 404,
    "/batches/{pending}/strays/line": 400,
    "/batches/{pending}/strays/line?line=output~1~1": 404,
    "/batches/{pending}/entries?after=x": 400,
    "/?older=0001-01-01T00:00:00%2B23:00~{pending}": 200,
    "/?newer=9999-12-31T23:59:59-23:00~{pending}": 200,
    "/campaigns/{unknown}": 404,
    "/campaigns/{pending}": 404,
    "/campaigns/{unknown}?round=x": 400,
    "/campaigns/{unknown}?after=-1": 400,
    "/campaigns?status=x": 400,
    "/campaigns?older=x": 400,
    "/static/nothing.css": 404,
}


async def test_addresses_that_make_no_sense_are_told_so(client: AsyncClient, stage: Stage) -> None:
    for path, status in ADDRESSES.items():
        page = await client.get(path.format(unknown=uuid4(), pending=stage.pending))
        assert page.status_code == status, path


async def test_a_batch_without_its_texts_says_so(client: AsyncClient, store: Store, stage: Stage) -> None:
    async with store._engine.begin() as connection:
        await connection.execute(
            text("update overnight.batches set handler_dispatched_at = now() where ended_at is not null")
        )
    await store.retention.prune(stage.handled)
    assert "were deleted" in (await client.get(f"/batches/{stage.handled}/entries/1")).text
    await store.retention.erase(stage.handled)
    assert "were erased" in (await client.get(f"/batches/{stage.handled}/entries")).text


async def run(store: Store, *statements: str) -> None:
    async with store.console.reading() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_the_console_cannot_write_and_does_not_wait_for_ever(store: Store, stage: Stage) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        await run(store, "delete from overnight.entries")
    with pytest.raises(DatabaseError, match="did not answer"):
        await run(store, "set local statement_timeout = 1", "select pg_sleep(10)")
    assert (await store.batches.request_cancel(stage.running)).cancel_requested_at is not None
