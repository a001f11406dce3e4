"""How much of a request a model will read and may write: what can be said before it is sent, and what cannot."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from overnight.providers._values import as_list, as_object, as_text
from overnight.providers.weight import PROVIDER_TOOLS, RequestWeight

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4

# No model writes as much. A raw request can say anything, and what is nonsense bounds nothing.
_SENSIBLE = 10**9

_STRUCTURE = frozenset({"type", "role", "id", "call_id", "tool_use_id", "detail", "status", "phase"})
"""Keys whose words steer the request and are not read as text."""

IMAGES = "images"

_UNCOUNTED_PARTS: Mapping[str, str] = {
    "image": IMAGES,
    "image_url": IMAGES,
    "input_image": IMAGES,
    "audio": "audio",
    "input_audio": "audio",
    "document": "files",
    "file": "files",
    "input_file": "files",
    "container_upload": "files",
    "item_reference": "earlier responses",
}
"""What a part of a prompt with such a `type` is. Its tokens depend on pixels, pages or seconds."""

_OWN_TOOLS = (None, "function", "custom", "namespace")
"""Types of tools that are wholly written out in the request. The others bring texts, calls and prices of their own."""


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """Where one endpoint's request has what.

    Attributes:
        texts: keys of what is read as text.
        schemas: keys of what is read as JSON: tools, and the schema of the answer.
        limits: keys that bound the answer, the one that counts first.
        answers: whether there is an answer that is paid by its length.
        tokens_for_tools: what the provider adds to a prompt that has tools.
        references: keys of what lies at the provider and is read too.
        tokens_per_image: the most that an image is read as, whatever its size; None where it depends on the model.
        cache_is_asked_for: tokens are written to the cache where the request says so, and only there.
    """

    texts: Collection[str]
    schemas: Collection[str] = ()
    limits: Collection[str] = ()
    answers: bool = True
    tokens_for_tools: int = 0
    references: Mapping[str, str]
    tokens_per_image: int | None = None
    cache_is_asked_for: bool = False

    def weigh(self, request: Mapping[str, Any]) -> RequestWeight:
        """The weight of one request."""
        found = _Found()
        for key in self.texts:
            found.read(request.get(key))
        for key in self.schemas:
            found.bytes += len(to_json(request[key])) if request.get(key) else 0
        tools = as_list(request.get("tools"))
        found.caches |= any("cache_control" in as_object(item) for item in (request, *tools))
        found.uncounted.update(PROVIDER_TOOLS for tool in tools if as_object(tool).get("type") not in _OWN_TOOLS)
        found.uncounted.update(what for key, what in self.references.items() if request.get(key))
        tokens = -(-found.bytes // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * found.messages
        return RequestWeight(
            tokens=tokens + (self.tokens_for_tools if tools else 0),
            max_output_tokens=self._limit(request) if self.answers else 0,
            uncounted=frozenset(found.uncounted),
            uncounted_at_most=self._at_most(found),
            may_write_cache=found.caches or not self.cache_is_asked_for,
            asks_for_cache=found.caches and self.cache_is_asked_for,
        )

    def _at_most(self, found: "_Found") -> int | None:
        if self.tokens_per_image is None or found.uncounted - {IMAGES}:
            return None if found.uncounted else 0
        return self.tokens_per_image * found.images

    def _limit(self, request: Mapping[str, Any]) -> int | None:
        limit = next((request[key] for key in self.limits if request.get(key) is not None), None)
        answers = 1 if request.get("n") is None else request["n"]
        if type(limit) is not int or type(answers) is not int:
            return None
        return limit * answers if 0 < limit * answers < _SENSIBLE else None


class _Found:
    """What a walk through a request comes across."""

    def __init__(self) -> None:
        self.bytes = self.messages = self.images = 0
        self.uncounted: set[str] = set()
        self.caches = False

    def read(self, value: Any) -> None:
        match value:
            case str():
                self.bytes += len(value.encode())
            case int():
                self.bytes += BYTES_PER_TOKEN  # a prompt can be given as tokens
            case list():
                for item in value:
                    self.read(item)
            case dict():
                self._read_object(value)
            case _:
                pass

    def _read_object(self, value: dict[str, Any]) -> None:
        self.caches |= "cache_control" in value
        self.messages += "role" in value
        if (what := _UNCOUNTED_PARTS.get(as_text(value.get("type")))) is not None:
            self.uncounted.add(what)
            self.images += what == IMAGES
            return
        for key, part in value.items():
            if key not in _STRUCTURE and key != "cache_control":
                self.read(part)
