"""The search attributes of a batch's workflow, by which Temporal's UI filters its list.

They are not encrypted, whatever codec is used, so they hold names and statuses only. A namespace must know them before
a workflow sets them: an unknown one fails its workflow tasks for as long as it is unknown (docs/decisions/0026).
"""

from typing import Any

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

PROVIDER = SearchAttributeKey.for_keyword("OvernightProvider")
MODEL = SearchAttributeKey.for_keyword("OvernightModel")
STATUS = SearchAttributeKey.for_keyword("OvernightStatus")
HANDLER = SearchAttributeKey.for_keyword("OvernightHandler")
NEEDS_ATTENTION = SearchAttributeKey.for_bool("OvernightNeedsAttention")

KINDS = {key.name: "Keyword" for key in (PROVIDER, MODEL, STATUS, HANDLER)} | {NEEDS_ATTENTION.name: "Bool"}
"""Name to type, as `temporal operator search-attribute create` has them."""


def attributes(
    *, provider: str, model: str, status: str, handler: str | None, needs_attention: bool
) -> TypedSearchAttributes:
    """All of them, for one batch."""
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(PROVIDER, provider),
        SearchAttributePair(MODEL, model),
        SearchAttributePair(STATUS, status),
        SearchAttributePair(NEEDS_ATTENTION, needs_attention),
        *([SearchAttributePair(HANDLER, handler)] if handler else []),
    ]
    return TypedSearchAttributes(pairs)
