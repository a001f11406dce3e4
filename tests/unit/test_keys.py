"""The same key, the same batch."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from overnight.batches import Batch, OnAmbiguousSubmit
from overnight.errors import UsageError
from overnight.ids import new_batch_id
from overnight.keys import Keys
from overnight.schedule import PollSchedule
from overnight.storage.batches import NewBatch
from overnight.storage.campaigns import NewCampaign

PARENT = uuid4()


def parent(batch_id: UUID = PARENT) -> Batch:
    return cast("Batch", SimpleNamespace(id=batch_id, handler_task_queue="my-app"))


CHOSEN: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5.4-mini",
    "endpoint": "/v1/responses",
    "handler": None,
    "handler_task_queue": None,
    "metadata": {},
    "schedule": PollSchedule(waits=(timedelta(seconds=1),), max_age=timedelta(hours=1)),
}


def named(keys: Keys, key: str | None) -> NewBatch:
    return keys.named(NewBatch(id=new_batch_id(), **CHOSEN), key)


def campaign(keys: Keys, key: str | None) -> NewCampaign:
    new = NewCampaign(
        id=new_batch_id(),
        max_age=None,
        on_ambiguous_submit=OnAmbiguousSubmit.WAIT,
        rounds=1,
        retry_invalid=False,
        max_concurrent_batches=1,
        max_batch_entries=None,
        **CHOSEN,
    )
    return keys.named(new, key)


def test_without_key_and_parent_every_batch_is_a_fresh_one_that_anybody_may_fill() -> None:
    first, second = (named(Keys(None), None) for _ in range(2))

    assert first.id != second.id
    assert (first.filling_token, first.parent_batch_id) == (None, None)


def test_a_key_is_the_same_batch_for_every_client_and_another_filler_for_each() -> None:
    first, second = (named(Keys(None), "nightly") for _ in range(2))

    assert first.id == second.id != named(Keys(None), "weekly").id
    assert first.filling_token != second.filling_token


def test_the_ids_of_keys_stay_what_they_are() -> None:
    """Another id for the same key would be a second batch for whoever is in the middle of an update."""
    known = UUID(int=7)

    assert str(named(Keys(None), "nightly").id) == "55c4df72-f284-590b-be9d-83064f6a191e"
    assert str(named(Keys(parent(known)), "nightly").id) == "42895c70-1220-5b1a-9e5f-9c3664a1119f"
    assert str(named(Keys(parent(known)), None).id) == "1d88e693-68e8-5fd1-bd6c-de9c1a5ee48f"
    assert str(campaign(Keys(None), "nightly").id) == "e6dec9f6-f6c3-5791-800e-5111c823c644"
    assert str(campaign(Keys(parent(known)), None).id) == "eebeac07-f9fc-5a1a-a904-34a167752e3e"


def test_a_run_of_a_handler_counts_what_has_no_key_and_the_next_run_counts_alike() -> None:
    runs = [[named(keys, key).id for key in (None, "b", None)] for keys in (Keys(parent()), Keys(parent()))]

    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


def test_batches_of_different_parents_are_different_and_know_their_parent() -> None:
    mine, others = named(Keys(parent()), "a"), named(Keys(parent(uuid4())), "a")

    assert mine.id != others.id
    assert mine.parent_batch_id == PARENT
    assert mine.filling_token is not None
    assert named(Keys(None), "a").id not in {mine.id, others.id}


def test_a_number_and_a_key_that_looks_like_it_are_different_batches() -> None:
    keys = Keys(parent())

    assert named(keys, None).id != named(keys, "1").id


def test_one_run_cannot_use_a_key_twice() -> None:
    keys = Keys(parent())
    named(keys, "a")

    with pytest.raises(UsageError, match="the key 'a' before"):
        named(keys, "a")


def test_what_a_handler_creates_is_handled_where_it_is() -> None:
    assert Keys(parent()).handler_task_queue == "my-app"
    assert Keys(None).handler_task_queue is None


def test_a_campaign_has_a_key_as_a_batch_has_and_neither_is_taken_for_the_other() -> None:
    runs = [Keys(parent()), Keys(parent())]
    ids = [
        [campaign(keys, "a").id, campaign(keys, None).id, named(keys, "a").id, named(keys, None).id] for keys in runs
    ]

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4
    assert campaign(Keys(parent()), "a").parent_batch_id == PARENT
    assert campaign(Keys(None), None).filling_token is None
    with pytest.raises(UsageError, match="a campaign with the key 'a' before"):
        campaign(runs[0], "a")


def test_a_retry_takes_its_turn_among_the_batches_of_a_run() -> None:
    keys = Keys(parent())
    retried = keys.id_of("batch", None)

    assert named(keys, None).id != retried == named(Keys(parent()), None).id
    assert Keys(None).id_of("batch", None) is None
