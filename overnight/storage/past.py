"""What entries of the same kind used before: what estimates are measured by."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_BATCHES, _ENTRIES_OF_EACH = 20, 50

# A few entries from all over each of the newest batches, each found by its key: as quick for a million as for ten.
_SAMPLE = text("""
    select entries.task, entries.request, results.input_tokens, results.output_tokens
    from (
        select id, entry_count from overnight.batches
        where provider = :provider and model = :model and endpoint = :endpoint and ingested_at is not null
            and pruned_at is null
        order by created_at desc limit :batches
    ) batch
    cross join lateral generate_series(1, batch.entry_count, greatest(batch.entry_count / :entries, 1)) sample(position)
    join overnight.results on results.batch_id = batch.id and results.position = sample.position
    join overnight.entries on entries.batch_id = batch.id and entries.position = sample.position
    where results.input_tokens > 0 and entries.request <> ''  -- it is, while pruning is under way
""")


@dataclass(frozen=True, kw_only=True)
class PastEntry:
    """An entry that was answered, with the tokens that the provider counted."""

    task: str | None
    request: str
    input_tokens: int
    output_tokens: int


class PastStore:
    """Answered entries of earlier batches."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def sample(self, *, provider: str, model: str, endpoint: str) -> AsyncIterator[PastEntry]:
        """Some entries that this model answered, of the newest batches."""
        wanted = {"provider": provider, "model": model, "endpoint": endpoint}
        sizes = {"batches": _BATCHES, "entries": _ENTRIES_OF_EACH}
        async with self._engine.connect() as connection, connection.stream(_SAMPLE, wanted | sizes) as rows:
            async for row in rows:
                yield PastEntry(**row._asdict())
