"""The pages: what each reads, and which template shows it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from overnight.batches import Batch, BatchStatus, Outcome
from overnight.campaigns import Campaign
from overnight.console import addresses, charts, reading
from overnight.console.addresses import TemporalUi, address
from overnight.console.security import TEXT_POLICY
from overnight.providers import provider_names
from overnight.storage.console import SLICE, ConsoleStore
from overnight.storage.console_campaigns import CampaignReader
from overnight.storage.console_values import BatchChoice, ListedBatch, Page, Part, Place, ShownBatch

Render = Callable[..., str]
_Read = Callable[..., Awaitable[Page[Any]]]

_BATCHES, _CAMPAIGNS, _ENTRIES, _STRAYS, _HITS = 50, 25, 50, 30, 50
_SLICES = 64
_CUSTOM_ID = 1_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """A moment in a batch's life, and how long after the one before it came."""

    name: str
    at: datetime
    after: timedelta | None


_MOMENTS = (
    ("created", "created_at"),
    ("sealed", "sealed_at"),
    ("submitted", "submitted_at"),
    ("cancel requested", "cancel_requested_at"),
    (None, "ended_at"),  # called as the status is
    ("ingested", "ingested_at"),
    ("hydrated", "hydrated_at"),
    ("handler ran", "handler_dispatched_at"),
    ("pruned", "pruned_at"),
)


def timeline(subject: Batch | Campaign) -> list[Step]:
    """What has happened so far, in the order in which it did. Of a campaign there is less to be told."""
    moments = [(name or subject.status.value, getattr(subject, column, None)) for name, column in _MOMENTS]
    known = sorted(((at, name) for name, at in moments if at is not None), key=lambda moment: moment[0])
    befores = [None, *(at for at, _ in known)]
    return [
        Step(name=name, at=at, after=at - before if before else None)
        for (at, name), before in zip(known, befores, strict=False)
    ]


class Pages:
    """Answers to requests."""

    def __init__(self, store: ConsoleStore, render: Render, temporal_ui: TemporalUi | None) -> None:
        self._store, self._render, self._temporal_ui = store, render, temporal_ui

    def _page(self, template: str, **values: Any) -> Response:
        return HTMLResponse(self._render(template, **values))

    async def batches(self, request: Request) -> Response:
        """The list of batches."""
        read = partial(self._store.batches, size=_BATCHES)
        return await self._newest("batches.html", "/", request, self._store, read)

    async def campaigns(self, request: Request) -> Response:
        """The list of campaigns."""
        read = partial(self._store.campaigns.page, size=_CAMPAIGNS)
        return await self._newest("campaigns.html", "/campaigns", request, self._store.campaigns, read)

    async def _newest(
        self, template: str, path: str, request: Request, kind: ConsoleStore | CampaignReader, read: _Read
    ) -> Response:
        choice, edge = addresses.choice_of(request.query_params), addresses.edge_of(request.query_params)
        page = await read(choice, edge=edge)
        if edge is not None and edge.backwards and not page.has_previous:
            page = await read(choice, edge=None)
        query = addresses.choice_query(choice)
        open_count, troubled = await kind.open_counts()
        return self._page(
            template,
            page=page,
            choice=choice,
            names=await kind.names(),
            statuses=list(BatchStatus),
            is_filtered=bool(query),
            open_count=open_count,
            troubled=troubled,
            **_neighbors(path, query, page, newer=_first(page), older=_last(page)),
        )

    async def batch(self, request: Request) -> Response:
        """One batch."""
        shown = await self._store.batch(request.path_params["batch_id"])
        strays = await self._store.strays(shown.batch.id, after=None, size=1)
        return self._page(
            "batch.html",
            shown=shown,
            batch=shown.batch,
            steps=timeline(shown.batch),
            metadata=reading.indented(shown.metadata),
            has_strays=bool(strays.items),
            workflow_url=self._workflow_url(shown.batch),
        )

    def _workflow_url(self, subject: Batch | Campaign) -> str | None:
        if self._temporal_ui is None or subject.workflow_id is None:
            return None
        return self._temporal_ui.workflow(subject.workflow_id)

    async def campaign(self, request: Request) -> Response:
        """One campaign, with some of its batches."""
        campaign_id, query = request.path_params["campaign_id"], request.query_params
        choice, number, place = addresses.choice_of(query), addresses.round_of(query), addresses.place_of(query)
        shown = await self._store.campaigns.get(campaign_id)
        chosen = {**addresses.choice_query(choice), "round": number}
        return self._page(
            "campaign.html",
            shown=shown,
            campaign=shown.campaign,
            steps=timeline(shown.campaign),
            metadata=reading.indented(shown.metadata),
            workflow_url=self._workflow_url(shown.campaign),
            choice=choice,
            round_number=number,
            tally=shown.rounds.get(number) if number else shown.tally,
            **await self._parts(campaign_id, choice, number, place, chosen),
        )

    async def _parts(
        self, campaign_id: UUID, choice: BatchChoice, number: int | None, place: Place, chosen: Mapping[str, object]
    ) -> dict[str, Any]:
        async def read(place: Place) -> Page[ListedBatch]:
            return await self._store.campaigns.batches(campaign_id, choice, number=number, place=place, size=_BATCHES)

        page = await read(place)
        if place.backwards and not page.has_previous:
            page = await read(Place())
        first, last = (page.items[0].number, page.items[-1].number) if page.items else (None, None)
        return {"page": page, **_neighbors(f"/campaigns/{campaign_id}", chosen, page, before=first, after=last)}

    async def entries(self, request: Request) -> Response:
        """The entries of a batch, or the one that is searched for."""
        batch_id, query = request.path_params["batch_id"], request.query_params
        place, outcome = addresses.place_of(query), addresses.outcome_of(query)
        custom_id = (query.get("custom_id") or "").strip()[:_CUSTOM_ID]
        shown = await self._store.batch(batch_id)
        if custom_id and "\x00" not in custom_id:
            position = await self._store.position_of(batch_id, custom_id)
            if position is not None:
                return RedirectResponse(f"/batches/{batch_id}/entries/{position}", status_code=303)
        return await self._entry_list(shown, place, outcome, not_found=custom_id)

    async def _entry_list(
        self, shown: ShownBatch, place: Place, outcome: Outcome | None, *, not_found: str
    ) -> Response:
        batch_id = shown.batch.id
        page = await self._store.entries(batch_id, place=place, size=_ENTRIES, outcome=outcome)
        if place.backwards and not page.has_previous:
            page = await self._store.entries(batch_id, place=Place(), size=_ENTRIES, outcome=outcome)
        path, query = f"/batches/{batch_id}/entries", {"outcome": outcome}
        first, last = (page.items[0].position, page.items[-1].position) if page.items else (None, None)
        return self._page(
            "entries.html",
            batch=shown.batch,
            page=page,
            outcome=outcome,
            outcomes=list(Outcome),
            not_found=not_found,
            start_url=address(path, query),
            end_url=address(path, query, before=shown.batch.entry_count + 1),
            **_neighbors(path, query, page, before=first, after=last),
        )

    async def entry(self, request: Request) -> Response:
        """One entry with its texts."""
        batch_id, position = request.path_params["batch_id"], addresses.position_of(request.path_params["position"])
        shown = await self._store.batch(batch_id)
        found = await self._store.entry(batch_id, position) if position <= shown.batch.entry_count else None
        if found is None:
            raise HTTPException(404, "There is no such entry in this batch.")
        request_text, line = found.texts.get(Part.REQUEST), found.texts.get(Part.RESPONSE)
        return self._page(
            "entry.html",
            batch=shown.batch,
            entry=found.entry,
            turns=reading.turns(request_text.text) if request_text else [],
            answer=reading.answer(shown.batch.provider, shown.batch.endpoint, line),
            provider_calls=reading.provider_calls(shown.batch, request_text, line),
            parts={part: (text, reading.indented(text.text)) for part, text in found.texts.items() if text.size},
            previous_url=f"/batches/{batch_id}/entries/{position - 1}" if position > 1 else None,
            next_url=f"/batches/{batch_id}/entries/{position + 1}" if position < shown.batch.entry_count else None,
        )

    async def text(self, request: Request) -> Response:
        """A text of an entry, as it is and nearly however long."""
        parameters = request.path_params
        if parameters["part"] not in list(Part):
            raise HTTPException(404, "An entry has no such text.")
        batch_id, part = parameters["batch_id"], Part(parameters["part"])
        position = addresses.position_of(parameters["position"])

        async def piece(start: int) -> str | None:
            return await self._store.entry_slice(batch_id, position, part, start)

        return await _streamed(piece)

    async def strays(self, request: Request) -> Response:
        """Received lines that are no entry's result."""
        shown = await self._store.batch(request.path_params["batch_id"])
        after = addresses.stray_place_of(request.query_params.get("after"))
        page = await self._store.strays(shown.batch.id, after=after, size=_STRAYS)
        path = f"/batches/{shown.batch.id}/strays"
        following = addresses.stray_text(page.items[-1].place) if page.has_next else None
        return self._page(
            "strays.html",
            batch=shown.batch,
            page=page,
            texts={stray.place: stray.start.decode("utf-8", "backslashreplace") for stray in page.items},
            line_url=lambda place: address(f"{path}/line", line=addresses.stray_text(place)),
            previous_url=path if after else None,
            next_url=address(path, after=following) if following else None,
        )

    async def stray(self, request: Request) -> Response:
        """A stray line, byte by byte."""
        place = addresses.stray_place_of(request.query_params.get("line"))
        if place is None:
            raise addresses.AddressError("line")

        async def piece(start: int) -> bytes | None:
            return await self._store.stray_slice(request.path_params["batch_id"], place, start)

        return await _streamed(piece)

    async def costs(self, request: Request) -> Response:
        """What was spent, by day, model and handler."""
        days = addresses.days_of(request.query_params)
        last = datetime.now(UTC).date()
        first = last - timedelta(days=days - 1)
        spendings = await self._store.spendings(datetime.combine(first, time(), UTC))
        return self._page(
            "costs.html",
            days=days,
            spendings=spendings,
            columns=charts.per_day(spendings.days, first=first, last=last),
            top=charts.highest(spendings.days),
            percent=charts.percent,
            models=[
                (f"{provider} {model}", {"provider": provider, "model": model}, spending)
                for (provider, model), spending in spendings.models.items()
            ],
            handlers=[
                (handler or "no handler", {"handler": handler} if handler else None, spending)
                for handler, spending in spendings.handlers.items()
            ],
        )

    async def search(self, request: Request) -> Response:
        """Straight to a batch or campaign by one of its ids, or the entries of a custom id."""
        wanted = (request.query_params.get("q") or "").strip()[:_CUSTOM_ID].replace("\x00", "")
        if wanted and (path := await self._path_of(wanted)) is not None:
            return RedirectResponse(path, status_code=303)
        hits = await self._store.search(wanted, size=_HITS) if wanted else []
        return self._page("search.html", wanted=wanted, hits=hits)

    async def _path_of(self, wanted: str) -> str | None:
        try:
            given = UUID(wanted.removeprefix("batch-").removeprefix("campaign-"))
        except ValueError:
            batch_id = await self._store.batch_at_provider(wanted, provider_names())
            return f"/batches/{batch_id}" if batch_id else None
        is_campaign = await self._store.campaigns.is_known(given)
        return f"/campaigns/{given}" if is_campaign else f"/batches/{given}"


def _first(page: Page[Any]) -> str | None:
    return addresses.edge_text(page.items[0]) if page.items else None


def _last(page: Page[Any]) -> str | None:
    return addresses.edge_text(page.items[-1]) if page.items else None


def _neighbors(path: str, query: Mapping[str, object], page: Page[Any], **edges: object) -> dict[str, str | None]:
    """Links to the pages before and after this one; `edges` are the names and values of both, in this order."""
    (back, first), (on, last) = edges.items()
    return {
        "previous_url": address(path, query, **{back: first}) if page.has_previous and first else None,
        "next_url": address(path, query, **{on: last}) if page.has_next and last else None,
    }


async def _streamed(piece: Callable[[int], Awaitable[str | bytes | None]]) -> Response:
    """A whole text, piece by piece, each read when the one before is gone."""
    first = await piece(0)
    if first is None:
        raise HTTPException(404, "There is no such text.")
    headers = {"content-security-policy": TEXT_POLICY, "content-disposition": "inline"}
    return StreamingResponse(_pieces(first, piece), media_type="text/plain; charset=utf-8", headers=headers)


async def _pieces(
    first: str | bytes, piece: Callable[[int], Awaitable[str | bytes | None]]
) -> AsyncIterator[str | bytes]:
    yield first
    before: str | bytes | None = first
    for number in range(1, _SLICES):
        if not before or len(before) < SLICE:
            return
        before = await piece(number * SLICE)
        yield before or b""
    yield f"\n[Cut here by overnight: this is the beginning of it, {_SLICES * SLICE:,} characters.]\n"
