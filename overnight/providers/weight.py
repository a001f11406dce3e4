"""How much a request weighs: what estimates and limits of cost go by."""

from dataclasses import dataclass

PROVIDER_TOOLS = "tools of the provider"
"""Among what a weight leaves uncounted: these have fees besides their tokens."""


@dataclass(frozen=True, kw_only=True)
class RequestWeight:
    """What can be said of a request's tokens before it is sent.

    Attributes:
        tokens: of the prompt, roughly.
        max_output_tokens: how long the answer can become; None where the request sets no limit.
        uncounted: kinds of content that `tokens` leaves out.
        uncounted_at_most: the most tokens that these can have; None where nobody can say.
        may_write_cache: its prompt can be billed as written to the provider's cache.
        asks_for_cache: it will be, for the request says so.
    """

    tokens: int
    max_output_tokens: int | None
    uncounted: frozenset[str] = frozenset()
    uncounted_at_most: int | None = 0
    may_write_cache: bool = False
    asks_for_cache: bool = False
