"""What bad input gets: a typed error that names the thing and the way out, and nothing half-written."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from overnight import BatchHandler, Overnight, RawRequest, Settings, Task
from overnight.client import BatchHandle
from overnight.errors import (
    BatchClosedError,
    BatchTooLargeError,
    CancelRefusedError,
    ConfigurationError,
    CustomIdError,
    DuplicateCustomIdError,
    EmptyBatchError,
    MissingKeyError,
    RequestError,
    UnknownBatchError,
    UnknownHandlerError,
    UnknownModelError,
    UnknownProviderError,
)
from overnight.ids import new_batch_id


class Echo(Task[str]):
    words: str

    def prompt(self) -> str:
        return self.words


async def rows(overnight: Overnight, table: str) -> int:
    async with overnight.store._engine.connect() as connection:
        return (await connection.execute(text(f"select count(*) from overnight.{table}"))).scalar_one()


@pytest.fixture
async def batch(overnight: Overnight) -> BatchHandle:
    return await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5")


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"provider": "acme"}, UnknownProviderError, ["'acme'", "anthropic", "openai"]),
        ({"model": "claude-typo-9"}, UnknownModelError, ["'claude-typo-9'", "allow_unknown_model=True"]),
        ({"model": "gpt-5.4-mini"}, UnknownModelError, ["'gpt-5.4-mini'", "anthropic"]),
        ({"handler": "NoSuchHandler"}, UnknownHandlerError, ["'NoSuchHandler'", "--import"]),
        ({"endpoint": "/v1/embeddings"}, RequestError, ["'/v1/embeddings'", "/v1/messages"]),
    ],
)
async def test_a_batch_with_an_unknown_name_is_refused(
    overnight: Overnight, options: dict[str, str], error: type[Exception], named: list[str]
) -> None:
    with pytest.raises(error) as caught:
        await overnight.create_batch(**{"provider": "anthropic", "model": "claude-haiku-4-5", **options})

    assert all(word in str(caught.value) for word in named)
    assert await rows(overnight, "batches") == 0


async def test_a_handler_class_that_is_no_longer_registered_under_its_name_is_refused(overnight: Overnight) -> None:
    def make() -> tuple[type[BatchHandler], type[BatchHandler]]:
        class One(BatchHandler, name="e2e-same-name"):
            pass

        class Two(BatchHandler, name="e2e-same-name"):
            pass

        return One, Two

    one, _ = make()
    with pytest.raises(ConfigurationError.__mro__[1], match="e2e-same-name"):
        await overnight.create_batch(provider="anthropic", model="claude-haiku-4-5", handler=one)


async def test_a_missing_key_is_named_before_anything_is_written(overnight: Overnight, settings: Settings) -> None:
    keyless = Overnight(
        settings=settings.model_copy(update={"anthropic_api_key": None}),
        store=overnight.store,
        temporal=overnight.temporal,
    )

    with pytest.raises(MissingKeyError, match=r"ANTHROPIC_API_KEY.*OVERNIGHT_KEYS_IN_WORKER_ONLY"):
        await keyless.create_batch(provider="anthropic", model="claude-haiku-4-5")

    assert await rows(overnight, "batches") == 0


async def test_a_client_that_holds_no_keys_by_design_may_create_batches(
    overnight: Overnight, settings: Settings
) -> None:
    changes = {"anthropic_api_key": None, "keys_in_worker_only": True}
    keyless = Overnight(
        settings=settings.model_copy(update=changes), store=overnight.store, temporal=overnight.temporal
    )

    await keyless.create_batch(provider="anthropic", model="claude-haiku-4-5")

    assert await rows(overnight, "batches") == 1


async def test_a_duplicate_custom_id_is_named_and_none_of_the_call_stays(batch: BatchHandle) -> None:
    await batch.add(Echo(words="first"), custom_id="r-1")

    with pytest.raises(DuplicateCustomIdError, match="'r-1'"):
        await batch.add_all((Echo(words=word) for word in ["second", "third"]), custom_id=lambda _: "r-1")

    assert (await batch.get()).entry_count == 1


@pytest.mark.parametrize("custom_id", ["", "a b", "ä", "x" * 56, "a/b", "line\n"])
async def test_a_custom_id_that_the_provider_would_refuse_is_refused_when_added(
    batch: BatchHandle, custom_id: str
) -> None:
    with pytest.raises(CustomIdError, match="does not match"):
        await batch.add(Echo(words="hello"), custom_id=custom_id)

    assert (await batch.get()).entry_count == 0


async def test_an_error_in_the_middle_of_a_stream_leaves_nothing_behind(batch: BatchHandle) -> None:
    async def breaks() -> AsyncIterator[Echo]:
        for number in range(5_000):
            yield Echo(words=str(number))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await batch.add_all(breaks())

    assert [entry async for entry in batch.entries()] == []
    assert (await batch.get()).entry_count == 0


async def test_more_entries_than_the_provider_takes_are_refused_while_they_can_still_be_split(
    overnight: Overnight,
) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")

    with pytest.raises(BatchTooLargeError, match="50,000 entries"):
        await batch.add_all(Echo(words="word") for _ in range(50_001))

    assert (await batch.get()).entry_count == 0


async def test_more_bytes_than_the_provider_takes_are_refused(overnight: Overnight) -> None:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini")
    long = "long " * 1_000_000

    with pytest.raises(BatchTooLargeError, match="bytes"):
        await batch.add_all(Echo(words=long) for _ in range(45))

    assert (await batch.get()).request_bytes == 0


async def test_an_empty_batch_is_not_submitted(batch: BatchHandle) -> None:
    with pytest.raises(EmptyBatchError, match=r"batch\.add"):
        await batch.submit()

    assert (await batch.get()).sealed_at is None


async def test_an_empty_prompt_is_refused(batch: BatchHandle) -> None:
    with pytest.raises(RequestError, match="empty prompt"):
        await batch.add(Echo(words="  "))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "claude-haiku-4-5", "max_tokens": 9}, "messages"),
        (
            {
                "model": "claude-haiku-4-5",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "x"}],
                "stream": True,
            },
            "stream",
        ),
    ],
)
async def test_a_raw_request_that_the_provider_would_refuse_is_refused_when_added(
    batch: BatchHandle, body: dict[str, object], named: str
) -> None:
    with pytest.raises(RequestError, match=named):
        await batch.add(RawRequest(body=body))


async def test_a_second_submit_and_a_late_entry_are_refused(batch: BatchHandle) -> None:
    await batch.add(Echo(words="hello"))
    await batch.submit()

    with pytest.raises(BatchClosedError, match="submitted already"):
        await batch.submit()
    with pytest.raises(BatchClosedError, match="submitted already"):
        await batch.add(Echo(words="too late"))

    assert (await batch.get()).entry_count == 1
    await (await batch._workflow()).terminate()


async def test_a_submit_whose_workflow_was_never_started_can_be_repeated(
    overnight: Overnight, batch: BatchHandle
) -> None:
    await batch.add(Echo(words="hello"))
    await overnight.store.batches.seal(batch.id)  # and then the process died

    await batch.submit()

    description = await (await batch._workflow()).describe()
    assert description.id == f"batch-{batch.id}"
    await (await batch._workflow()).terminate()


async def test_a_batch_that_was_never_submitted_cannot_be_canceled(batch: BatchHandle) -> None:
    with pytest.raises(CancelRefusedError, match="never submitted"):
        await batch.cancel()


async def test_an_unknown_batch_is_named(overnight: Overnight) -> None:
    unknown = new_batch_id()

    with pytest.raises(UnknownBatchError, match=str(unknown)):
        await overnight.batch(unknown).submit()


async def test_a_client_without_a_database_says_which_variable_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="OVERNIGHT_DATABASE_URL"):
        async with Overnight.connect(Settings(database_url=None)):
            pass


async def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    settings = Settings(database_url=SecretStr("postgresql://user:secret@127.0.0.1:1/none"))

    with pytest.raises(Exception, match=r"127\.0\.0\.1:1") as caught:
        async with Overnight.connect(settings):
            pass

    assert "secret" not in str(caught.value)
    assert type(caught.value).__name__ == "DatabaseError"
