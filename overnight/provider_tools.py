"""Tools that the provider runs itself while it answers. What they cost besides tokens is in no price table: the cost of
an answer that used one is unknown, unless OVERNIGHT_TOOL_FEES says what a call costs (docs/decisions/0038).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WebSearch:
    """Let the model search the web.

    Providers charge for searches as well as for tokens. Fees: `web_search`.

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

    Providers may charge for the container's time, which no response tells. Fees: `code_execution` for Anthropic,
    `code_interpreter` for OpenAI, per call.
    """


ProviderTool = WebSearch | CodeExecution
