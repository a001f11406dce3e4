"""Every fault of the provider and of the wire, one at a time and all together: paid once, and nothing paid is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from overnight import Outcome, Overnight
from overnight.batches import BatchStatus, OnAmbiguousSubmit
from overnight.client import BatchHandle
from overnight.notices import NoticeKind
from overnight.settings import Settings
from overnight.simulator import SimulatorConfig, Stages
from overnight.simulator.serve import Running
from tests.chaos.faults_stage import SIZE, Expected, Stage, check, set_up, working, wrong_key

BOTH = ("openai", "anthropic")
WAITED = [NoticeKind.WAITING, NoticeKind.RECOVERED]
GAVE_UP = [NoticeKind.WAITING, NoticeKind.ATTENTION]
ASKED_FOR_HELP = [NoticeKind.ATTENTION, NoticeKind.RECOVERED]
ALL = {Outcome.SUCCEEDED: SIZE}
HALF = SIZE // 2
QUICK = Stages(validating=0.05, in_progress=0.3, finalizing=0.05, canceling=0.1)


@pytest.fixture
def simulator_config(request: pytest.FixtureRequest) -> SimulatorConfig:
    return SimulatorConfig(stages=getattr(request, "param", QUICK))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    quick = {
        "poll_waits": (timedelta(seconds=0.15),),
        "list_settles": timedelta(seconds=0.4),
        "results_settle": timedelta(seconds=0.5),
    }
    return settings.model_copy(update=quick)


@pytest.fixture
async def stages(overnight: Overnight, settings: Settings, simulator: Running) -> AsyncIterator[dict[str, Stage]]:
    async with set_up(overnight, settings, simulator) as stages:
        yield stages


def effect(kind: str, operation: str = "batches.create", *, times: int | None = 1, skip: int = 0, **rest: Any) -> Any:
    return {"kind": kind, **rest}, operation, {"times": times, "skip": skip}


def lines(how: str, count: int = 1, **rest: Any) -> Any:
    return effect("lines", how=how, count=count, **rest)


def whole(how: str, **rest: Any) -> Any:
    return effect("batch", how=how, **rest)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the provider does wrong, and what must come of it."""

    script: list[Any]
    providers: tuple[str, ...] = BOTH
    options: dict[str, Any] = field(default_factory=dict)
    expected: Expected = field(default_factory=lambda: Expected(outcomes=ALL))


def heals(*script: Any, told: list[NoticeKind] | None = WAITED, providers: tuple[str, ...] = BOTH) -> Fault:
    """Trouble that leaves no trace but what was told of it."""
    return Fault(script=list(script), providers=providers, expected=Expected(outcomes=ALL, told=told))


def ends(status: BatchStatus, *script: Any, providers: tuple[str, ...] = BOTH, **expected: Any) -> Fault:
    return Fault(script=list(script), providers=providers, expected=Expected(status=status, **expected))


def spoils(
    *script: Any, strays: dict[str, int] | None = None, told: Sequence[NoticeKind] = (), **outcomes: int
) -> Fault:
    """Bad lines, which spoil their own entries and no other."""
    spoiled = {Outcome(word): count for word, count in outcomes.items()}
    found = {Outcome.SUCCEEDED: SIZE - sum(spoiled.values()), **spoiled}
    expected = Expected(outcomes=found, strays=strays or {}, told=[*told], all_read=told is not GAVE_UP)
    return Fault(script=list(script), expected=expected)


HALF_EXPIRED = {Outcome.SUCCEEDED: HALF, Outcome.EXPIRED: HALF}
HALF_CANCELED = {Outcome.SUCCEEDED: HALF, Outcome.CANCELED: HALF}
PROXY_ERROR = '{"error": {"message": "Upstream is ill.", "type": "proxy_error"}}'
EXPIRES = whole("expire", share=0.5)

FAULTS = {
    # The create.
    "created but the answer is lost": heals(effect("answer_lost")),
    "created but the answer is cut": heals(effect("cut", after_bytes=20)),
    "created but the answer is cut before its first byte": heals(effect("cut", after_bytes=0)),
    "created but the answer is a 500": heals(effect("status_after_accept", status=500)),
    "created but the answer is a 503": heals(effect("status_after_accept", status=503)),
    "created but the answer is a 529": heals(effect("status_after_accept", status=529)),
    "create refused with 500": heals(effect("status", status=500)),
    "create refused with 503": heals(effect("status", status=503, retry_after="0")),
    "create refused with 529 twice": heals(effect("status", status=529, times=2)),
    "create refused with 429 and Retry-After": heals(effect("status", status=429, retry_after="0")),
    "create answered with HTML": heals(effect("html")),
    "create answered with HTML and status 200": heals(effect("html", status=200)),
    "create dropped before it was read": heals(effect("dropped")),
    "create dropped and then its answer lost": heals(effect("dropped"), effect("answer_lost")),
    "create late": heals(effect("delay", seconds=0.5), told=[]),
    "created but the answer is lost and lists lag behind": heals(
        effect("answer_lost"), effect("list_lag", "batches.list", times=None, seconds=0.25)
    ),
    "created but the answer is lost and lists fail": heals(
        effect("answer_lost"), effect("status", "batches.list", status=500, skip=1)
    ),
    # The upload.
    "uploaded but the answer is lost": heals(effect("answer_lost", "files.upload"), providers=("openai",)),
    "uploaded but the answer is a 500": heals(
        effect("status_after_accept", "files.upload", status=500), providers=("openai",)
    ),
    "upload refused with 429": heals(
        effect("status", "files.upload", status=429, retry_after="0"), providers=("openai",)
    ),
    "uploaded and created but both answers are lost": heals(
        effect("answer_lost", "files.upload"), effect("answer_lost"), told=WAITED * 2, providers=("openai",)
    ),
    # Polls.
    "poll refused with 429 and Retry-After": heals(effect("status", "batches.retrieve", status=429, retry_after="0.2")),
    "429 storm on polls": heals(effect("status", "batches.retrieve", status=429, times=8)),
    "500 storm on polls": heals(effect("status", "batches.retrieve", status=500, times=8)),
    "storm of everything on polls": heals(
        effect("status", "batches.retrieve", status=429, times=2),
        effect("html", "batches.retrieve", times=2),
        effect("dropped", "batches.retrieve", times=2),
        effect("status", "batches.retrieve", status=500, times=2),
        effect("cut", "batches.retrieve", after_bytes=9, times=2),
    ),
    "poll answered with HTML and status 200": heals(effect("html", "batches.retrieve", status=200)),
    "poll late": heals(effect("delay", "batches.retrieve", seconds=0.5), told=[]),
    "poll refused because of its key": heals(
        effect("status", "batches.retrieve", status=401, times=3), told=ASKED_FOR_HELP
    ),
    "a status word that nobody knows": heals(whole("status_word", word="pondering"), told=[]),
    # Results.
    "results refused with 429 and Retry-After": heals(effect("status", "results", status=429, retry_after="0")),
    "results cut once": heals(effect("cut", "results", after_bytes=3000)),
    "results cut twice": heals(*(effect("cut", "results", after_bytes=n) for n in (0, 5000))),
    "results answered with HTML": heals(effect("html", "results", status=200)),
    "results answered with an error and status 200": heals(
        effect("html", "results", status=200, body=PROXY_ERROR, content_type="application/json")
    ),
    "results answered with HTML that is not said to be that": heals(
        effect("html", "results", status=200, content_type="application/octet-stream")
    ),
    "results answered with nothing and status 200": heals(
        effect("html", "results", status=200, body="", content_type="application/octet-stream")
    ),
    "results that end early and say that this is all": heals(effect("short", "results", lines=10, half_line=True)),
    "results refused with 500 and then dropped": heals(
        effect("status", "results", status=500), effect("dropped", "results")
    ),
    "results not found for a while": heals(effect("status", "results", status=404, times=3), told=ASKED_FOR_HELP),
    "files that are named late": heals(whole("late_files", seconds=1.5), providers=("openai",)),
    # Lines.
    "lines twice": spoils(lines("duplicate", 5), strays={"duplicate": 5}),
    "lines that never come": spoils(lines("missing", 5), missing=5, told=GAVE_UP),
    "lines for entries that nobody sent": spoils(lines("unknown_id", 5), strays={"unknown": 5}),
    "lines cut in the middle": spoils(lines("malformed", 5), strays={"malformed": 5}, missing=5),
    "lines of every wrong shape": Fault(script=[lines("wrong_shape", 10)], expected=Expected(strays={"malformed": 6})),
    "raw line separators in answers": spoils(lines("line_separator", 5)),
    "NUL in answers": spoils(lines("nul", 5)),
    "lone surrogates in answers": spoils(lines("lone_surrogate", 5), errored=5),
    "an answer of 20 MB": spoils(lines("huge"), invalid=1),
    # The batch as a whole.
    "expired with half done": ends(BatchStatus.EXPIRED, EXPIRES, outcomes=HALF_EXPIRED, told=[], providers=("openai",)),
    # Anthropic knows one end for all that it did not finish by itself.
    "ended with half expired": ends(
        BatchStatus.ENDED, EXPIRES, outcomes=HALF_EXPIRED, told=[], providers=("anthropic",)
    ),
    "canceled by somebody else with half done": ends(
        BatchStatus.CANCELED, whole("cancel_by_itself", share=0.5), outcomes=HALF_CANCELED, told=[]
    ),
    "failed as a whole": ends(
        BatchStatus.FAILED,
        whole("fail", code="model_not_found", message="No such model."),
        outcomes={Outcome.ERRORED: SIZE},
        told=[],
        providers=("openai",),
    ),
    "refused for good": ends(
        BatchStatus.FAILED, effect("status", status=400), outcomes={Outcome.ERRORED: SIZE}, made=0, told=[]
    ),
    "no room in the queue, twice": Fault(
        script=[effect("batch", how="fail", times=2)],
        providers=("openai",),
        expected=Expected(outcomes=ALL, made=3, told=[NoticeKind.ABOVE_QUOTA]),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_it_is_paid_once_and_nothing_is_lost(name: str, stages: dict[str, Stage]) -> None:
    fault = FAULTS[name]
    acting = [stages[provider] for provider in fault.providers]
    async with working(acting[0]):
        batches = await asyncio.gather(*(play(stage, fault) for stage in acting))
    for stage, batch in zip(acting, batches, strict=True):
        await check(stage, batch, fault.expected)


async def play(stage: Stage, fault: Fault) -> BatchHandle:
    for spoiled, operation, match in fault.script:
        await stage.fault(spoiled, operation, **match)
    batch = await stage.submitted(**fault.options)
    await over(batch)
    return batch


async def over(*batches: BatchHandle) -> None:
    async with asyncio.timeout(240):
        await asyncio.gather(*(batch.wait() for batch in batches))


async def soon(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(240):
        while not await true():
            await asyncio.sleep(0.02)


LONG = Stages(validating=0.05, in_progress=60, finalizing=0.05, canceling=0.1)
long = pytest.mark.parametrize("simulator_config", [LONG], indirect=True, ids=["long"])


EVERYTHING = [
    effect("answer_lost"),
    effect("list_lag", "batches.list", times=None, seconds=0.2),
    effect("status", "batches.retrieve", status=429),
    effect("html", "batches.retrieve"),
    effect("cut", "results", after_bytes=4000),
    whole("status_word", word="pondering"),
    *(
        lines(how, custom_ids=pattern)
        for how, pattern in [
            ("duplicate", ["*-1", "*-1-*"]),
            ("missing", ["*-2", "*-2-*"]),
            ("unknown_id", ["*-3", "*-3-*"]),
            ("malformed", ["*-4", "*-4-*"]),
            ("line_separator", ["*-5", "*-5-*"]),
            ("nul", ["*-6", "*-6-*"]),
            ("lone_surrogate", ["*-7", "*-7-*"]),
            ("huge", ["*-8", "*-8-*"]),
        ]
    ),
]


async def test_everything_at_once(stages: dict[str, Stage]) -> None:
    outcomes = {Outcome.SUCCEEDED: SIZE - 4, Outcome.MISSING: 2, Outcome.ERRORED: 1, Outcome.INVALID: 1}
    strays = {"duplicate": 1, "unknown": 1, "malformed": 1}
    fault = Fault(script=EVERYTHING, expected=Expected(outcomes=outcomes, strays=strays))
    async with working(stages["openai"]):
        batches = await asyncio.gather(*(play(stage, fault) for stage in stages.values()))
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, fault.expected)


async def test_two_batches_whose_answers_are_lost_at_once_are_not_taken_for_each_other(
    stages: dict[str, Stage],
) -> None:
    for stage in stages.values():
        await stage.fault({"kind": "answer_lost"}, times=2)
    async with working(stages["openai"]):
        pairs = {name: [await stage.submitted(), await stage.submitted()] for name, stage in stages.items()}
        await over(*pairs["openai"], *pairs["anthropic"])
    for name, pair in pairs.items():
        for batch in pair:
            await check(stages[name], batch, Expected(outcomes=ALL, made=2, paid_orphans=1, told=WAITED))


# Anthropic has no tag: while a batch of the same size runs that could be ours, nobody can know.


async def lost_and_in_doubt(stage: Stage, **options: Any) -> BatchHandle:
    await stage.fault({"kind": "answer_lost"}, times=1)
    batch = await stage.submitted(**options)
    await stage.until_made()
    await stage.stranger()
    return batch


@long
async def test_in_doubt_a_batch_waits_until_it_is_certain(stages: dict[str, Stage]) -> None:
    stage = stages["anthropic"]
    async with working(stage):
        batch = await lost_and_in_doubt(stage)
        looks = await stage.calls("batches.list")
        await soon(lambda: more_calls(stage, "batches.list", looks + 8))  # more than enough for lists to settle
        assert len(await stage.made()) == 1
        await stage.change((await stage.made())[0]["id"], finish=True)
        await over(batch)
    await check(stage, batch, Expected(outcomes=ALL, told=WAITED))


async def more_calls(stage: Stage, operation: str, count: int) -> bool:
    return await stage.calls(operation) >= count


@long
async def test_in_doubt_a_batch_fails_where_that_is_wanted_and_what_was_made_is_found_later(
    stages: dict[str, Stage],
) -> None:
    stage = stages["anthropic"]
    told = [*WAITED, NoticeKind.ORPHAN]
    async with working(stage):
        batch = await lost_and_in_doubt(stage, on_ambiguous_submit=OnAmbiguousSubmit.FAIL)
        await over(batch)
        await check(stage, batch, failed_in_doubt(told[:-1]))
        orphan = (await stage.made())[0]["id"]
        await stage.change(orphan, finish=True)
        later = await stage.submitted(size=3)  # any poll of this provider looks for what was left in doubt
        await soon(lambda: told_of(stage, batch, NoticeKind.ORPHAN))
        await later.cancel()
        await over(later)
    assert await stage.overnight.store.submissions.in_doubt(batch.id) == []
    assert orphan in stage.recorder.of(batch.id)[-1].text
    await check(stage, batch, failed_in_doubt(told, made=2))


def failed_in_doubt(told: list[NoticeKind], made: int = 1) -> Expected:
    outcomes = {Outcome.ERRORED: SIZE}
    return Expected(status=BatchStatus.FAILED, outcomes=outcomes, made=made, paid_orphans=1, told=told, all_read=False)


async def told_of(stage: Stage, batch: BatchHandle, kind: NoticeKind) -> bool:
    return any(notice.kind is kind for notice in stage.recorder.of(batch.id))


@long
async def test_in_doubt_a_batch_is_created_again_where_that_is_wanted(stages: dict[str, Stage]) -> None:
    stage = stages["anthropic"]
    async with working(stage):
        batch = await lost_and_in_doubt(stage, on_ambiguous_submit=OnAmbiguousSubmit.RESUBMIT)
        first, second = await stage.until_made(2)
        await stage.change(first["id"], finish=True)
        await soon(lambda: told_of(stage, batch, NoticeKind.ORPHAN))
        await stage.change(second["id"], finish=True)
        await over(batch)
    assert (await batch.get()).provider_batch_id == second["id"]
    told = [*WAITED, NoticeKind.ORPHAN]
    await check(stage, batch, Expected(outcomes=ALL, made=2, paid_orphans=1, told=told, all_read=False))


# OpenAI has a tag, and a list that could lag for longer than it is given.


@long
async def test_a_batch_that_lists_showed_too_late_is_reported_and_canceled(stages: dict[str, Stage]) -> None:
    stage = stages["openai"]
    await stage.fault({"kind": "answer_lost"}, times=1)
    await stage.fault({"kind": "list_lag", "seconds": 1.5}, "batches.list")
    async with working(stage):
        batch = await stage.submitted()
        _, second = await stage.until_made(2)
        await soon(lambda: told_of(stage, batch, NoticeKind.ORPHAN))
        await stage.change(second["id"], finish=True)
        await over(batch)
    assert (await batch.get()).provider_batch_id == second["id"]
    await check(stage, batch, Expected(outcomes=ALL, made=2, told=[*WAITED, NoticeKind.ORPHAN], all_read=False))


# Ends that somebody asked for.


@long
async def test_a_canceled_batch_keeps_what_was_done(stages: dict[str, Stage]) -> None:
    async with working(stages["openai"]):
        batches = []
        for stage in stages.values():
            await stage.fault({"kind": "batch", "how": "cancel", "share": 0.5})
            batches.append(await stage.submitted())
            await stage.until_made()
        for batch in batches:
            await batch.cancel()
        await over(*batches)
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, Expected(status=BatchStatus.CANCELED, outcomes=HALF_CANCELED, told=[]))
        assert (await batch.get()).cost.billed


@long
async def test_a_batch_that_is_too_old_keeps_what_was_done(stages: dict[str, Stage]) -> None:
    async with working(stages["openai"]):
        batches = []
        for stage in stages.values():
            await stage.fault({"kind": "batch", "how": "cancel", "share": 0.5})
            batches.append(await stage.submitted(max_age=timedelta(seconds=0.8)))
        await over(*batches)
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, Expected(status=BatchStatus.FAILED, outcomes=HALF_CANCELED, told=[]))
        found = await batch.get()
        assert found.failure_code == "max_age_exceeded"
        assert found.cost.billed


@pytest.mark.parametrize(
    "simulator_config", [Stages(validating=2, in_progress=0.1, finalizing=0.1)], indirect=True, ids=["validates long"]
)
async def test_a_cancel_ends_the_waiting_for_room(stages: dict[str, Stage]) -> None:
    stage = stages["openai"]
    await stage.fault({"kind": "batch", "how": "fail"})
    async with working(stage):
        batch = await stage.submitted()
        await stage.until_made()
        await soon(lambda: is_accepted(batch))
        await batch.cancel()
        await over(batch)
    expected = Expected(status=BatchStatus.CANCELED, outcomes={Outcome.CANCELED: SIZE}, told=[])
    await check(stage, batch, expected)


async def is_accepted(batch: BatchHandle) -> bool:
    return (await batch.get()).provider_batch_id is not None


# Keys.


async def test_a_wrong_key_is_said_once_and_a_repaired_one_heals(stages: dict[str, Stage], settings: Settings) -> None:
    first = stages["openai"]
    async with working(first, wrong_key(settings)):
        batches = [await stage.submitted() for stage in stages.values()]
        for stage, batch in zip(stages.values(), batches, strict=True):
            await soon(lambda stage=stage, batch=batch: told_of(stage, batch, NoticeKind.ATTENTION))
    async with working(first):
        await over(*batches)
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, Expected(outcomes=ALL, told=ASKED_FOR_HELP))


async def test_a_key_that_stops_working_shows_in_the_progress_until_it_is_repaired(stages: dict[str, Stage]) -> None:
    batches = []
    async with working(stages["openai"]):
        for stage in stages.values():
            await stage.fault({"kind": "status", "status": 401}, "batches.retrieve")
            batches.append(await stage.submitted())
        for batch in batches:
            await soon(lambda batch=batch: shows(batch, "401"))
        await stages["openai"].heal()
        for batch in batches:
            await soon(lambda batch=batch: shows_nothing(batch))
        await over(*batches)
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, Expected(outcomes=ALL, told=ASKED_FOR_HELP))


async def shows_nothing(batch: BatchHandle) -> bool:
    return (await batch.progress()).last_error is None


async def shows(batch: BatchHandle, text: str) -> bool:
    return text in ((await batch.progress()).last_error or "")


# Results that are gone.


async def test_results_that_are_gone_are_asked_for_until_max_age_and_then_their_entries_are_missing(
    stages: dict[str, Stage],
) -> None:
    batches = []
    async with working(stages["openai"]):
        for stage in stages.values():
            await stage.fault({"kind": "batch", "how": "archive"})
            batches.append(await stage.submitted(max_age=timedelta(seconds=1.5)))
        await over(*batches)
    told = [NoticeKind.ATTENTION, NoticeKind.ATTENTION]
    for stage, batch in zip(stages.values(), batches, strict=True):
        await check(stage, batch, Expected(outcomes={Outcome.MISSING: SIZE}, told=told, readable=False, all_read=False))
        assert "lost" in ((await batch.get()).last_error or "")


async def test_when_no_provider_keeps_results_any_longer_any_error_is_final(stages: dict[str, Stage]) -> None:
    stage = stages["openai"]
    await stage.fault({"kind": "status", "status": 401}, "results")
    async with working(stage):
        batch = await stage.submitted()
        await soon(lambda: told_of(stage, batch, NoticeKind.ATTENTION))
        async with stage.overnight.store._engine.begin() as connection:
            await connection.execute(text("update overnight.batches set submitted_at = now() - interval '32 days'"))
        await over(batch)
    await check(stage, batch, Expected(outcomes={Outcome.MISSING: SIZE}, readable=False, all_read=False))


@long
async def test_a_batch_that_is_closed_here_and_runs_on_there_is_not_waited_for_any_more(
    stages: dict[str, Stage], settings: Settings
) -> None:
    for stage in stages.values():
        async with working(stage):
            batch = await stage.submitted()
            await soon(lambda batch=batch: is_accepted(batch))
            # As `expire_batch` does when the grace has passed, which nobody can wait for here.
            await stage.overnight.store.batches.give_up(batch.id, "too old")
            await stage.overnight.store.batches.close(
                batch.id, BatchStatus.FAILED, code="max_age_exceeded", reason="too old"
            )
            await over(batch)
        outcomes = {Outcome.EXPIRED: SIZE}
        await check(stage, batch, Expected(status=BatchStatus.FAILED, outcomes=outcomes, told=[], all_read=False))
