"""The tables, in a Postgres schema of their own, so that they can live in the database of the application they serve.

`entries` is what was asked, `results` what came back, `outputs` what the Tasks made of it. All three are written once
and (but for an `invalid` verdict on a result) never updated: inserting is several times cheaper than rewriting rows.
A campaign's entries are those of its batches; what is asked again is a further entry, and `attempts` links
the two.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from overnight.batches import BatchStatus, OnAmbiguousSubmit, Outcome

SCHEMA = "overnight"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)


_TERMINAL_HAS_END = "(status in ('ended', 'canceled', 'expired', 'failed')) = (ended_at is not null)"


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """A check rather than a Postgres enum: a new word is then one cheap migration."""
    return CheckConstraint(f"{column} in ({', '.join(repr(word.value) for word in words)})", name=column)


def _instant(name: str, *, default: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not default, server_default=func.now() if default else None)


def _tokens(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _token_columns() -> list[Column[int]]:
    names = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
    return [_tokens(f"{name}_tokens") for name in names]


def _subject_columns() -> list[Column[Any]]:
    """What a batch and a campaign are both asked of, and handled by."""
    return [
        Column("id", UUID(as_uuid=True), primary_key=True),
        Column("provider", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("status", Text, nullable=False, server_default=text("'pending'")),
        Column("handler", Text),
        Column("handler_task_queue", Text),
        Column("handler_activity", Text, comment="a Temporal activity, run instead of a handler class"),
    ]


def _trouble_columns() -> list[Column[Any]]:
    """What went wrong with a batch or a campaign, and what does now."""
    return [
        Column("failure_code", Text),
        Column("failure_reason", Text),
        Column("last_error", Text, comment="a step's newest failure, in full: it may quote entries, so it stays here"),
        Column("trouble_code", Text, comment="what keeps a step from succeeding, while something does"),
        _instant("trouble_since"),
    ]


campaigns = Table(
    "campaigns",
    metadata,
    *_subject_columns(),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("poll_waits", ARRAY(Interval), nullable=False),
    Column("batch_max_age", Interval, nullable=False, comment="of each of its batches"),
    Column("max_age", Interval, comment="of the whole; null waits for as long as it takes"),
    Column("on_ambiguous_submit", Text, nullable=False, server_default=text("'wait'")),
    Column("rounds", SmallInteger, nullable=False, comment="how often an entry may be asked, the first time included"),
    Column("round", SmallInteger, nullable=False, server_default=text("1")),
    Column("retry_invalid", Boolean, nullable=False, comment="ask again, too, where the answer did not fit"),
    Column("max_concurrent_batches", Integer, nullable=False),
    Column("max_batch_entries", Integer, comment="null where a batch may be as large as the provider takes it"),
    Column("max_cost", Numeric, comment="US dollars, for all batches of all rounds together"),
    Column(
        "parent_batch_id",
        ForeignKey("overnight.batches.id", ondelete="SET NULL", use_alter=True),
        comment="the batch whose handler created it",
    ),
    Column("filling_token", UUID(as_uuid=True), comment="who may fill a campaign that is created by its key"),
    Column("entry_count", BigInteger, nullable=False, server_default=text("0"), comment="of the first round"),
    Column("has_own_ids", Boolean, nullable=False, server_default=false(), comment="not all custom ids are numbered"),
    Column("workflow_id", Text, comment="the one workflow that may run this campaign"),
    _instant("created_at", default=True),
    _instant("sealed_at"),
    _instant("cancel_requested_at"),
    _instant("ended_at"),
    _instant("handler_dispatched_at"),
    Column("skipped_round", Text, comment="why no further round was asked, where one was due"),
    *_trouble_columns(),
    _one_of("status", BatchStatus),
    _one_of("on_ambiguous_submit", OnAmbiguousSubmit),
    CheckConstraint(_TERMINAL_HAS_END, name="terminal_has_end"),
)
Index("campaigns_created_at_idx", campaigns.c.created_at.desc())
Index(
    "campaigns_parent_batch_id_idx",
    campaigns.c.parent_batch_id,
    postgresql_where=text("parent_batch_id is not null"),
)

batches = Table(
    "batches",
    metadata,
    *_subject_columns(),
    Column("parent_batch_id", ForeignKey("overnight.batches.id", ondelete="SET NULL")),
    Column("filling_token", UUID(as_uuid=True), comment="who may fill a batch that is created by its key"),
    Column("campaign_id", ForeignKey(campaigns.c.id, ondelete="CASCADE")),
    Column("number", Integer, comment="1, 2, ... within its campaign"),
    Column("round", SmallInteger, comment="of its campaign: which time its entries are asked"),
    Column("max_cost", Numeric, comment="US dollars; a batch whose estimate is above is not submitted"),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("poll_waits", ARRAY(Interval), nullable=False),
    Column("max_age", Interval, nullable=False),
    Column("on_ambiguous_submit", Text, nullable=False, server_default=text("'wait'")),
    Column("entry_count", Integer, nullable=False, server_default=text("0")),
    Column("request_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column(
        "input_count", Integer, nullable=False, server_default=text("0"), comment="more than entries, for embeddings"
    ),
    Column("workflow_id", Text, comment="the one workflow that may run this batch"),
    _instant("created_at", default=True),
    _instant("sealed_at"),
    _instant("submitted_at"),
    _instant("cancel_requested_at"),
    _instant("ended_at"),
    _instant("ingested_at"),
    _instant("hydrated_at"),
    _instant("handler_dispatched_at"),
    _instant("pruned_at"),
    Column(
        "results_lost_at",
        DateTime(timezone=True),
        comment="when results were given up that the provider had and nobody can read",
    ),
    Column(
        "results_awaited_since",
        DateTime(timezone=True),
        comment="when the provider was first seen to give fewer result lines than it counts",
    ),
    Column("provider_batch_id", Text),
    Column("provider_details", JSONB, nullable=False, server_default=text("'{}'")),
    Column("progress_total", Integer, nullable=False, server_default=text("0")),
    Column("progress_done", Integer, nullable=False, server_default=text("0")),
    Column("progress_failed", Integer, nullable=False, server_default=text("0")),
    *_trouble_columns(),
    Column("ingest_source", Text, nullable=False, server_default=text("''")),
    Column("ingest_offset", BigInteger, nullable=False, server_default=text("0")),
    Column("hydrate_position", Integer, nullable=False, server_default=text("0")),
    Column("outcomes", JSONB, nullable=False, server_default=text("'{}'"), comment="entries per outcome"),
    Column("retried", JSONB, nullable=False, server_default=text("'{}'"), comment="those among them asked again later"),
    *_token_columns(),
    Column("cost", Numeric, comment="US dollars at the batch rate; null where no price is known"),
    Column("list_cost", Numeric, comment="US dollars that the same tokens cost without batching"),
    Column("price_version", Text, comment="which price table the costs come from"),
    _one_of("status", BatchStatus),
    _one_of("on_ambiguous_submit", OnAmbiguousSubmit),
    CheckConstraint(_TERMINAL_HAS_END, name="terminal_has_end"),
    UniqueConstraint("provider", "provider_batch_id"),
)

Index("batches_created_at_idx", batches.c.created_at.desc())
Index(
    "batches_parent_batch_id_idx",
    batches.c.parent_batch_id,
    postgresql_where=text("parent_batch_id is not null"),
)
Index(
    "batches_unfinished_idx",
    batches.c.created_at,
    postgresql_where=text("handler_dispatched_at is null and sealed_at is not null"),
)
Index("batches_results_lost_idx", batches.c.created_at, postgresql_where=batches.c.results_lost_at.is_not(None))
Index(
    "batches_campaign_id_number_key",
    batches.c.campaign_id,
    batches.c.number,
    unique=True,
    postgresql_where=batches.c.campaign_id.is_not(None),
)

submissions = Table(
    "submissions",
    metadata,
    Column("batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), nullable=False),
    Column("number", SmallInteger, nullable=False),
    Column("token", String(8), nullable=False, comment="marks what is ours at the provider"),
    Column("file_id", Text, comment="the provider's id of the uploaded input"),
    Column("marker", Text, comment="the newest batch at the provider before the first create"),
    _instant("created_at", default=True),
    _instant("started_at"),
    _instant("doubted_at"),
    _instant("accepted_at"),
    _instant("abandoned_at"),
    _instant("resolved_at"),
    Column("provider_batch_id", Text),
    PrimaryKeyConstraint("batch_id", "number"),
)
# One submission at a time: the database itself refuses a second one beside it.
Index(
    "submissions_open_key", submissions.c.batch_id, unique=True, postgresql_where=submissions.c.abandoned_at.is_(None)
)
# Nearly empty, and asked for at every poll.
Index(
    "submissions_in_doubt_idx",
    submissions.c.batch_id,
    postgresql_where=text("abandoned_at is not null and started_at is not null and resolved_at is null"),
)

entries = Table(
    "entries",
    metadata,
    Column("batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False, comment="1, 2, ... in the order of adding"),
    Column("custom_id", Text, nullable=False),
    Column("task", Text, comment="registered name of the Task; null for a raw request"),
    Column("fields", JSON, comment="the Task's fields, behind `$settings` of its own; json, for jsonb refuses \\u0000"),
    Column("request", Text, nullable=False, comment="the provider's body for this entry, as sent"),
    PrimaryKeyConstraint("batch_id", "position"),
    UniqueConstraint("batch_id", "custom_id", postgresql_include=["position"]),
)

# One row per entry that was asked again; the first attempt of an entry has none.
attempts = Table(
    "attempts",
    metadata,
    Column("batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False, comment="of the entry that asks again"),
    Column("earlier_batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), nullable=False),
    Column("earlier_position", Integer, nullable=False, comment="of the entry that did not succeed"),
    PrimaryKeyConstraint("batch_id", "position"),
    UniqueConstraint("earlier_batch_id", "earlier_position"),
)

results = Table(
    "results",
    metadata,
    Column("batch_id", UUID, nullable=False),
    Column("position", Integer, nullable=False, comment="of the entry"),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    Column("reason", Text),
    *_token_columns(),
    Column("cost", Numeric),
    Column("list_cost", Numeric),
    Column("line", Text, comment="the provider's line as received; null where there was none"),
    PrimaryKeyConstraint("batch_id", "position"),
    _one_of("outcome", Outcome),
)

# For those who look for what went wrong. What went well, and so nearly every row, costs this index nothing.
Index(
    "results_failures_idx",
    results.c.batch_id,
    results.c.outcome,
    results.c.position,
    postgresql_where=results.c.outcome != Outcome.SUCCEEDED.value,
)

outputs = Table(
    "outputs",
    metadata,
    Column("batch_id", UUID, nullable=False),
    Column("position", Integer, nullable=False, comment="of the entry"),
    Column(
        "output", JSON, comment="what the Task made of the response; null for tool calls alone, and for invalid ones"
    ),
    Column("tool_calls", JSON, comment="what the response asked to be called, with the results"),
    CheckConstraint("output is not null or tool_calls is not null", name="not_empty"),
    PrimaryKeyConstraint("batch_id", "position"),
)

stray_results = Table(
    "stray_results",
    metadata,
    Column("batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False, comment="which of the provider's result files"),
    Column("ends_at", BigInteger, nullable=False, comment="byte position behind the block that held the line"),
    Column("number", Integer, nullable=False, comment="of the line within that block"),
    Column("kind", Text, nullable=False),
    Column("custom_id", Text),
    Column("line", LargeBinary, nullable=False, comment="bytes, for it may be anything"),
    _instant("received_at", default=True),
    CheckConstraint("kind in ('malformed', 'unknown', 'duplicate')", name="kind"),
    PrimaryKeyConstraint("batch_id", "source", "ends_at", "number"),
)
