"""Tools that the provider runs itself while it answers. What they cost besides tokens is in no price table."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WebSearch:
    """Let the model search the web.

    Providers charge for searches as well as for tokens; the costs of entries and batches leave that out.

    Attributes:
        max_uses: the most searches in one answer.
        allowed_domains: search only these, e.g. "example.com".
        blocked_domains: search all but these; not every provider can.
    """

    max_uses: int | None = None
    allowed_domains: Sequence[str] = ()
    blocked_domains: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CodeExecution:
    """Let the model run code in a container of the provider's.

    Providers charge for the container's time; the costs of entries and batches leave that out.
    """


ProviderTool = WebSearch | CodeExecution
