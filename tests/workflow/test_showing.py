"""What Temporal shows of a batch: details, summaries, search attributes."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from overnight.attributes import HANDLER, MODEL, NEEDS_ATTENTION, PROVIDER, STATUS
from overnight.batches import BatchStatus
from overnight.contracts import TROUBLE, BatchSummary, Trouble
from tests.replay.campaign_scripts import campaign_searchable_and_refused
from tests.replay.record import RUNNING, searchable_and_forfeited, searchable_and_in_trouble
from tests.workflow.campaign_stage import CampaignStage
from tests.workflow.stage import Stage, says, transient


async def upserts(handle: WorkflowHandle[Any, BatchSummary]) -> list[set[str]]:
    """The names that each upsert set, in order."""
    return [
        set(event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields)
        for event in (await handle.fetch_history()).events
        if event.HasField("upsert_workflow_search_attributes_event_attributes")
    ]


async def summaries(handle: WorkflowHandle[Any, BatchSummary]) -> list[str]:
    events = (await handle.fetch_history()).events
    return [bytes(event.user_metadata.summary.data).decode() for event in events if event.user_metadata.summary.data]


async def details(handle: WorkflowHandle[Any, BatchSummary]) -> str:
    return str((await handle.query("__temporal_workflow_metadata")).current_details)


async def test_search_attributes_are_written_when_one_of_them_is_another(stage: Stage) -> None:
    handle = await searchable_and_in_trouble(stage)
    await handle.result()

    found = (await handle.describe()).typed_search_attributes
    assert found[PROVIDER] == "openai"
    assert found[MODEL] == "gpt-5.4-mini"
    assert found[HANDLER] == "Save"
    assert found[STATUS] == "ended"
    assert found[NEEDS_ATTENTION] is False
    first, *later = await upserts(handle)
    assert {key.name for key in (PROVIDER, MODEL, HANDLER, STATUS, NEEDS_ATTENTION)} == first
    # Submitted, in trouble, out of it, in progress, ended: the last three may share an event.
    assert all(names <= {STATUS.name, NEEDS_ATTENTION.name} for names in later)
    assert 3 <= len(later) <= 5


async def test_lost_results_need_attention_when_all_is_over(stage: Stage) -> None:
    handle = await searchable_and_forfeited(stage)
    await handle.result()

    assert (await handle.describe()).typed_search_attributes[NEEDS_ATTENTION] is True
    shown = await details(handle)
    assert "Needs attention: done" in shown
    assert "`results_lost`" in shown
    assert "`overnight retry " in shown


async def test_a_campaign_is_found_by_them_too(environment: WorkflowEnvironment) -> None:
    stage = CampaignStage(environment)
    async with stage.worker():
        handle = await campaign_searchable_and_refused(stage)
        await handle.result()
        found = (await handle.describe()).typed_search_attributes
        first, *later = await upserts(handle)

    assert {key: found[key] for key in (PROVIDER, MODEL, HANDLER)} == {
        PROVIDER: "openai",
        MODEL: "gpt-5.4-mini",
        HANDLER: "Save",
    }
    assert (found[STATUS], found[NEEDS_ATTENTION]) == ("ended", False)
    assert {key.name for key in (PROVIDER, MODEL, HANDLER, STATUS, NEEDS_ATTENTION)} == first
    # In trouble, out of it, ended.
    assert later == [{NEEDS_ATTENTION.name}, {NEEDS_ATTENTION.name}, {STATUS.name}]


async def test_a_namespace_without_them_gets_none(stage: Stage) -> None:
    handle = await stage.start()
    await handle.result()

    assert await upserts(handle) == []


async def test_timers_read_like_a_log_of_the_polls(stage: Stage) -> None:
    stage.polls = [transient(), RUNNING, says(BatchStatus.ENDED)]
    handle = await stage.start()
    await handle.result()

    told = await summaries(handle)
    assert [text.strip('"') for text in told if "next in" in text] == [
        "created: submitted, next in 1m",
        "poll 1: failed, next in 2m",
        "poll 2: in_progress 1 of 3, next in 5m",
    ]


async def test_a_steps_own_word_of_trouble_is_shown_with_what_to_do_until_a_step_succeeds(stage: Stage) -> None:
    stage.polls = [RUNNING, says(BatchStatus.ENDED)]
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        while "next at" not in await details(handle):
            await stage.environment.sleep(timedelta(milliseconds=10))
        trouble = Trouble(
            batch_id=uuid4(), code="http_401", text="openai fetch: HTTP 401", kind="PermanentProviderError"
        )
        await handle.signal(TROUBLE, trouble)
        shown = await details(handle)
    await handle.result()

    assert "Needs attention: poll" in shown
    assert "openai fetch: HTTP 401 (`http_401`)" in shown
    assert "mend it and restart the worker" in shown
    after = await details(handle)
    assert "Needs attention" not in after
    assert "- outcomes: 3 succeeded" in after
