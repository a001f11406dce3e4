"""Tools that OpenAI runs itself, and has fees for: which of their calls an answer tells, and which it does not."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from overnight.providers._values import as_list, as_object, as_text
from overnight.providers.base import UntoldTool

WITHOUT_FEE = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call", "mcp_call"}
)
"""Calls that the caller runs, or a server of the caller's choice: OpenAI bills their tokens alone (its page on pricing,
2026).
"""


def told_calls(body: Mapping[str, Any]) -> Mapping[str, int]:
    """By the name of the tool: `web_search`, `file_search`, `code_interpreter` and whatever comes. A web search that
    only opens or reads through a page that it found is another thing than a search, and may cost something else.
    """
    items = [as_object(item) for item in as_list(body.get("output"))]
    called = [item for item in items if as_text(item.get("type")).endswith("_call") and item["type"] not in WITHOUT_FEE]
    return Counter(map(_called_tool, called))


def _called_tool(item: Mapping[str, Any]) -> str:
    name, action = as_text(item.get("type")).removesuffix("_call"), as_text(as_object(item.get("action")).get("type"))
    return f"{name}.{action}" if name == "web_search" and action not in ("", "search") else name


def chat_search(model: str) -> UntoldTool:
    """The web search of chat completions, whose answers have its citations at most. Its models (`gpt-5-search-api`,
    `gpt-4o-search-preview`) search before each answer, asked to or not (guide on web search, 2026).
    """
    return UntoldTool(name="web_search_options", always="search" in words_of(model))


def words_of(model: str) -> list[str]:
    """What a model's name is made of. A fine-tuned one ("ft:gpt-4o-mini:organisation:name:id") is what its base is; its
    own name is anybody's.
    """
    return model.removeprefix("ft:").split(":", 1)[0].lower().split("-")
