"""Our adapters drive the simulator over real sockets, the way the activities will."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import pytest
from pydantic import BaseModel

from overnight.batches import BatchStatus, Outcome
from overnight.errors import (
    AmbiguousProviderError,
    PermanentProviderError,
    TransientProviderError,
)
from overnight.providers.anthropic import Anthropic
from overnight.providers.base import (
    EntryLine,
    EntryLines,
    MalformedLineError,
    Message,
    Prompt,
    ProviderReport,
    ResultLine,
    ResultPosition,
    Submission,
    Undecided,
)
from overnight.providers.openai import OpenAI
from tests.conformance.bench import CLAUDE, EMBEDDER, GPT, OPENAI_LIFE, SLOW, Bench, Simulate

Adapter = OpenAI | Anthropic
NAMES = ("openai", "anthropic")
LIFE = {"openai": OPENAI_LIFE, "anthropic": SLOW.in_progress}
MODELS = {"/v1/responses": GPT, "/v1/chat/completions": GPT, "/v1/embeddings": EMBEDDER, "/v1/messages": CLAUDE}


class Mood(BaseModel):
    mood: Literal["good", "bad"]
    score: float
    note: str | None = None


def adapter_of(name: str, bench: Bench, key: str = "test-key") -> Adapter:
    if name == "openai":
        return OpenAI(api_key=key, base_url=bench.where.openai_base_url)
    return Anthropic(api_key=key, base_url=bench.where.anthropic_base_url)


class Job:
    """One submission with its entries."""

    def __init__(self, adapter: Adapter, bench: Bench, *, size: int = 7, endpoint: str | None = None) -> None:
        self.adapter = adapter
        self.bench = bench
        self.endpoint = endpoint or adapter.endpoints[0]
        self.model = MODELS[self.endpoint]
        self.entries = [EntryLine(custom_id=f"e-{i}", request=json.dumps(self.request(i))) for i in range(size)]
        self.submission = Submission(
            batch_id=uuid4(),
            token=uuid4().hex[:8],
            model=self.model,
            endpoint=self.endpoint,
            entry_count=size,
            request_bytes=sum(len(e.custom_id) + len(e.request.encode()) for e in self.entries),
        )

    def request(self, index: int) -> dict[str, Any]:
        schema = Mood.model_json_schema() if self.endpoint != "/v1/embeddings" else None
        prompt = Prompt(
            messages=[Message(role="user", content=f"How was night {index}? 🦉\u2028")], output_schema=schema
        )
        return self.adapter.render(prompt, model=self.model, endpoint=self.endpoint)

    @property
    def lines(self) -> EntryLines:
        async def pages() -> AsyncIterator[Sequence[EntryLine]]:
            for index in range(0, len(self.entries), 3):
                yield self.entries[index : index + 3]

        return pages

    async def create(self) -> ProviderReport:
        """As far as a create whose answer may be lost: everything that `find` needs is kept before."""
        file_id = await self.adapter.upload(self.submission, self.lines)
        marker = await self.adapter.newest()
        self.submission = replace(self.submission, file_id=file_id, marker=marker, started_at=datetime.now(UTC))
        return await self.adapter.create(self.submission, self.lines)

    async def ended(self) -> ProviderReport:
        report = await self.create()
        self.bench.advance(LIFE[self.adapter.name])
        return await self.adapter.fetch(report.provider_batch_id)

    async def raw(self, report: ProviderReport, position: ResultPosition | None = None) -> list[bytes]:
        blocks = self.adapter.results(report, position or ResultPosition())
        return [raw async for block in blocks for raw in block.lines]

    async def results(self, report: ProviderReport) -> dict[str, ResultLine]:
        parsed = [self.adapter.parse_line(raw, self.submission.token) for raw in await self.raw(report)]
        return {result.custom_id: result for result in parsed}


@pytest.fixture(params=NAMES)
async def job(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Job]:
    adapter = adapter_of(request.param, bench)
    yield Job(adapter, bench)
    await adapter.aclose()


@pytest.mark.parametrize("endpoint", MODELS)
async def test_a_batch_goes_there_and_its_typed_answers_come_back(bench: Bench, endpoint: str) -> None:
    adapter = adapter_of("anthropic" if endpoint == "/v1/messages" else "openai", bench)
    job = Job(adapter, bench, endpoint=endpoint)
    created = await job.create()
    assert not created.status.is_terminal
    bench.advance(LIFE[adapter.name])
    report = await adapter.fetch(created.provider_batch_id)
    assert (report.status, report.progress.total, report.progress.done) == (BatchStatus.ENDED, 7, 7)
    results = await job.results(report)
    assert set(results) == {entry.custom_id for entry in job.entries}
    for raw in await job.raw(report):
        result = adapter.parse_line(raw, job.submission.token)
        assert (result.outcome, result.reason) == (Outcome.SUCCEEDED, None)
        assert result.usage.input_tokens > 0
        response = adapter.read_response(raw, endpoint=endpoint)
        if endpoint == "/v1/embeddings":
            assert response.embedding
        else:
            Mood.model_validate_json(response.text)
            assert result.usage.output_tokens > 0
    await adapter.aclose()


async def test_a_lost_answer_to_a_create_is_in_doubt_and_the_batch_is_found(job: Job) -> None:
    job.bench.fault({"kind": "answer_lost"}, operation="batches.create", times=1)
    with pytest.raises(AmbiguousProviderError):
        await job.create()
    found = await job.adapter.find(job.submission)
    if job.adapter.name == "anthropic":
        assert isinstance(found, Undecided)
        job.bench.advance(LIFE["anthropic"])
        found = await job.adapter.find(job.submission)
    assert isinstance(found, ProviderReport)
    job.bench.advance(LIFE[job.adapter.name])
    report = await job.adapter.fetch(found.provider_batch_id)
    assert set(await job.results(report)) == {entry.custom_id for entry in job.entries}
    assert job.bench.batches_at(job.adapter.name) == 1


@pytest.mark.parametrize(
    "effect",
    [{"kind": "cut"}, *({"kind": "status_after_accept", "status": status} for status in (500, 503, 529))],
    ids=str,
)
async def test_every_bad_answer_after_the_create_is_in_doubt(job: Job, effect: dict[str, Any]) -> None:
    job.bench.fault(effect, operation="batches.create", times=1)
    with pytest.raises(AmbiguousProviderError):
        await job.create()


async def test_nothing_is_found_where_nothing_was_made(job: Job) -> None:
    for _ in range(2):
        other = Job(job.adapter, job.bench, size=7)
        await other.create()
    job.bench.advance(LIFE[job.adapter.name])
    job.bench.fault({"kind": "dropped"}, operation="batches.create", times=1)
    with pytest.raises(AmbiguousProviderError):
        await job.create()
    assert await job.adapter.find(job.submission) is None


async def test_a_batch_of_the_same_size_by_somebody_else_is_not_taken(job: Job) -> None:
    job.bench.fault({"kind": "dropped"}, operation="batches.create", times=1)
    with pytest.raises(AmbiguousProviderError):
        await job.create()
    await Job(job.adapter, job.bench, size=7).ended()
    assert await job.adapter.find(job.submission) is None


async def test_a_create_that_is_given_up_before_its_last_bytes_makes_no_batch(job: Job) -> None:
    class GivenUpError(Exception):
        pass

    async def pages() -> AsyncIterator[Sequence[EntryLine]]:
        yield job.entries
        raise GivenUpError

    file_id = await job.adapter.upload(job.submission, job.lines)
    with pytest.raises(GivenUpError):
        await job.adapter.create(replace(job.submission, file_id=file_id), pages)
    assert job.bench.batches_at(job.adapter.name) == 0


async def test_what_is_forgotten_twice_is_no_error(job: Job) -> None:
    report = await job.ended()
    uploads = [job.submission.file_id] if job.submission.file_id else []
    for _ in range(2):
        await job.adapter.forget(report.provider_batch_id, uploads)
    with pytest.raises(PermanentProviderError):
        await job.raw(report)


async def test_a_create_that_is_refused_for_now_is_not_in_doubt(job: Job) -> None:
    job.bench.fault({"kind": "status", "status": 429, "retry_after": 7}, operation="batches.create", times=1)
    with pytest.raises(TransientProviderError) as caught:
        await job.create()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 7


async def test_reading_resumes_at_any_committed_line(job: Job) -> None:
    report = await job.ended()
    whole = await job.raw(report)
    blocks = [block async for block in job.adapter.results(report, ResultPosition())]
    source = blocks[-1].position.source
    offset = 0
    for index, raw in enumerate(whole, start=1):
        offset += len(raw) + 1
        assert await job.raw(report, ResultPosition(source=source, offset=offset)) == whole[index:]
    assert blocks[-1].position.offset == offset


@pytest.mark.parametrize("after_bytes", [0, 1, 700, 1500])
async def test_a_download_that_is_cut_is_said_to_be_cut(job: Job, after_bytes: int) -> None:
    report = await job.ended()
    operation = "*.content" if job.adapter.name == "openai" else "*.results"
    job.bench.fault({"kind": "cut", "after_bytes": after_bytes}, operation=operation, times=1)
    whole_lines: list[bytes] = []

    async def read() -> None:
        async for block in job.adapter.results(report, ResultPosition()):
            whole_lines.extend(block.lines)

    with pytest.raises(TransientProviderError):
        await read()
    assert all(json.loads(raw)["custom_id"] for raw in whole_lines)
    assert len(await job.raw(report)) == 7


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_an_expired_batch_keeps_what_was_finished(job: Job, share: float) -> None:
    job.bench.fault({"kind": "batch", "how": "expire", "share": share}, operation="batches.create")
    report = await job.ended()
    outcomes = [result.outcome for result in (await job.results(report)).values()]
    assert report.status.is_terminal
    assert outcomes.count(Outcome.SUCCEEDED) == report.progress.done - report.progress.failed
    assert outcomes.count(Outcome.EXPIRED) == 7 - outcomes.count(Outcome.SUCCEEDED)
    assert report.status is BatchStatus.EXPIRED or (job.adapter.name, share > 0) == ("anthropic", True)


async def test_a_canceled_batch_keeps_what_was_finished(job: Job) -> None:
    job.bench.fault({"kind": "batch", "how": "cancel", "share": 0.5}, operation="batches.create")
    created = await job.create()
    job.bench.advance(SLOW.validating + 1)
    asked = await job.adapter.cancel(created.provider_batch_id)
    assert asked.status is BatchStatus.IN_PROGRESS
    again = await job.adapter.cancel(created.provider_batch_id)
    assert again.status is BatchStatus.IN_PROGRESS
    job.bench.advance(SLOW.canceling)
    report = await job.adapter.fetch(created.provider_batch_id)
    assert report.status is BatchStatus.CANCELED
    outcomes = {result.outcome for result in (await job.results(report)).values()}
    assert outcomes == {Outcome.SUCCEEDED, Outcome.CANCELED}
    late = await job.adapter.cancel(created.provider_batch_id)
    assert late.status is BatchStatus.CANCELED


async def test_a_cancel_after_the_end_reports_the_end(job: Job) -> None:
    report = await job.ended()
    assert (await job.adapter.cancel(report.provider_batch_id)).status is BatchStatus.ENDED


@pytest.mark.parametrize("how", ["line_separator", "nul", "lone_surrogate", "wrong_shape", "malformed", "unknown_id"])
async def test_an_odd_line_hurts_nobody_else(job: Job, how: str) -> None:
    job.bench.fault({"kind": "lines", "how": how, "count": 2}, operation="batches.create")
    report = await job.ended()
    found: dict[str, Outcome] = {}
    strays = 0
    for raw in await job.raw(report):
        try:
            result = job.adapter.parse_line(raw, job.submission.token)
        except MalformedLineError:
            strays += 1
            continue
        known = result.custom_id in {entry.custom_id for entry in job.entries}
        strays += not known
        found |= {result.custom_id: result.outcome} if known else {}
    good = list(found.values()).count(Outcome.SUCCEEDED)
    assert good >= 5
    assert len(found) + strays >= 7
    assert good == 7 or how not in ("line_separator", "nul", "unknown_id")


async def test_a_huge_answer_is_one_line(job: Job) -> None:
    job.bench.fault({"kind": "lines", "how": "huge", "size": 3_000_000}, operation="batches.create")
    report = await job.ended()
    cut_by_max_tokens = 16_384
    assert max(map(len, await job.raw(report))) > (3_000_000 if job.adapter.name == "openai" else cut_by_max_tokens)
    assert len(await job.results(report)) == 7


async def test_polls_tell_what_waiting_mends_from_what_it_does_not(job: Job) -> None:
    created = await job.create()
    for effect in ({"kind": "status", "status": 500}, {"kind": "html", "status": 200}, {"kind": "dropped"}):
        job.bench.fault(effect, operation="batches.retrieve", times=1)
        with pytest.raises(TransientProviderError):
            await job.adapter.fetch(created.provider_batch_id)
    with pytest.raises(PermanentProviderError) as unknown:
        await job.adapter.fetch("batch_nobody_made")
    assert unknown.value.status == 404
    assert (await job.adapter.fetch(created.provider_batch_id)).progress.done == 0


async def test_a_status_word_that_nobody_knows_is_not_the_end(job: Job) -> None:
    job.bench.fault({"kind": "batch", "how": "status_word"}, operation="batches.create")
    created = await job.create()
    job.bench.advance(SLOW.validating + 1)
    report = await job.adapter.fetch(created.provider_batch_id)
    assert (report.status, report.status_word) == (BatchStatus.IN_PROGRESS, "scheduling")


@pytest.mark.parametrize("name", NAMES)
async def test_a_bad_key_is_said_without_the_key(bench: Bench, name: str) -> None:
    adapter = adapter_of(name, bench, key="invalid-key-123456")
    with pytest.raises(PermanentProviderError) as caught:
        await adapter.fetch("batch_1")
    assert caught.value.status == 401
    assert "invalid-key" not in str(caught.value)
    await adapter.aclose()


async def test_a_batch_that_fails_its_checks_says_why(bench: Bench) -> None:
    adapter = adapter_of("openai", bench)
    job = Job(adapter, bench)
    job.entries[3] = job.entries[3]._replace(custom_id=job.entries[2].custom_id)
    report = await job.ended()
    assert report.status is BatchStatus.FAILED
    assert report.failure_code == "duplicate_custom_id"
    assert await job.raw(report) == []
    await adapter.aclose()


async def test_files_that_are_named_late_are_waited_for(bench: Bench) -> None:
    adapter = adapter_of("openai", bench)
    job = Job(adapter, bench)
    bench.fault({"kind": "batch", "how": "late_files", "seconds": 50}, operation="batches.create")
    report = await job.ended()
    assert report.status is BatchStatus.ENDED
    with pytest.raises(TransientProviderError, match="not there yet"):
        await job.raw(report)
    bench.advance(50)
    assert len(await job.results(await adapter.fetch(report.provider_batch_id))) == 7
    await adapter.aclose()


async def test_a_list_that_lags_hides_the_batch_only_for_a_while(job: Job) -> None:
    await job.create()
    job.bench.fault({"kind": "list_lag", "seconds": 30}, operation="batches.list")
    assert await job.adapter.find(job.submission) is None
    job.bench.advance(200)
    assert isinstance(await job.adapter.find(job.submission), ProviderReport)


async def test_our_batch_is_found_beyond_the_first_page(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"overnight.providers.{job.adapter.name}.PAGE", 2)
    await job.create()
    for _ in range(5):
        await Job(job.adapter, job.bench).create()
    job.bench.advance(LIFE[job.adapter.name])
    found = await job.adapter.find(job.submission)
    assert isinstance(found, ProviderReport)
    assert set(await job.results(found)) == {entry.custom_id for entry in job.entries}


@pytest.mark.parametrize("name", NAMES)
async def test_a_server_that_can_sends_the_rest_of_a_file_only(simulate: Simulate, name: str) -> None:
    bench = simulate(ranges=True)
    job = Job(adapter_of(name, bench), bench)
    report = await job.ended()
    whole = await job.raw(report)
    source = [block async for block in job.adapter.results(report, ResultPosition())][-1].position.source
    offset = 0
    for index, raw in enumerate(whole, start=1):
        offset += len(raw) + 1
        assert await job.raw(report, ResultPosition(source=source, offset=offset)) == whole[index:]
    await job.adapter.aclose()
