"""Anthropic's create body, up to 256 MB of one JSON object, taken apart without holding it.

The body is spooled to a file first; this reads that file in windows, decodes one request at a time, and writes each
on a line of its own.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from overnight.simulator.errors import ApiError

CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PATTERN: Final = "^[a-zA-Z0-9_-]{1,64}$"
WINDOW: Final = 1024 * 1024
SPACE: Final = " \t\r\n"
_decoder = json.JSONDecoder()


def split_requests(body: Path, target: Path, most: int) -> tuple[int, str | None]:
    """Write the batch's requests to `target`, one per line; how many there are, and their model if it is one.

    Raises ApiError as the service does at create: the JSON, the ids and the number are checked here, the params of
    each request are not.
    """
    seen: set[str] = set()
    models: set[str] = set()
    with body.open("rb") as source, target.open("wb") as lines:
        for number, (raw, entry) in enumerate(_Reader(source).requests()):
            if number >= most:
                raise ApiError(f"requests: List should have at most {most} items after validation", status=413)
            _check(entry, number, seen)
            models.add(str(entry["params"].get("model")))
            lines.write(_one_line(raw, entry) + b"\n")
    if not seen:
        raise ApiError("requests: List should have at least 1 item after validation, not 0")
    return len(seen), models.pop() if len(models) == 1 else None


def _one_line(raw: str, entry: Any) -> bytes:
    """The request as it was sent, so that nothing is rounded on the way, unless it spans lines."""
    try:
        return raw.encode() if "\n" not in raw and "\r" not in raw else json.dumps(entry).encode()
    except UnicodeEncodeError:
        return json.dumps(entry).encode()


def _check(entry: Any, number: int, seen: set[str]) -> None:
    where = f"requests.{number}"
    if not isinstance(entry, dict):
        raise ApiError(f"{where}: Input should be a valid dictionary")
    for name, kind, words in (("custom_id", str, "string"), ("params", dict, "dictionary")):
        if name not in entry:
            raise ApiError(f"{where}.{name}: Field required")
        if not isinstance(entry[name], kind):
            raise ApiError(f"{where}.{name}: Input should be a valid {words}")
    _check_id(entry["custom_id"], where)
    if entry["custom_id"] in seen:
        raise ApiError(f"{where}.custom_id: Duplicate custom_id '{entry['custom_id']}': custom_ids must be unique")
    seen.add(entry["custom_id"])


def _check_id(custom_id: str, where: str) -> None:
    if not custom_id:
        raise ApiError(f"{where}.custom_id: String should have at least 1 character")
    if len(custom_id) > 64:
        raise ApiError(f"{where}.custom_id: String should have at most 64 characters")
    if not CUSTOM_ID.fullmatch(custom_id):
        raise ApiError(f"{where}.custom_id: String should match pattern '{PATTERN}'")


class _Reader:
    """A window over the body's text that grows only as far as one value needs."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source = source
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        self.text = ""
        self.at = 0
        self.ended = False

    def requests(self) -> Iterator[tuple[str, Any]]:
        found = False
        self.expect("{")
        while self.peek() != "}":
            name = self.value()[1]
            self.expect(":")
            if name == "requests" and self.peek() == "[":
                found = True
                yield from self.items()
            elif name == "requests":
                raise ApiError("requests: Input should be a valid list")
            else:
                raise ApiError(f"{name}: Extra inputs are not permitted")
            if self.peek() == ",":
                self.at += 1
        if not found:
            raise ApiError("requests: Field required")

    def items(self) -> Iterator[tuple[str, Any]]:
        self.expect("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() not in ",]":
                raise self.broken()
            if self.peek() == ",":
                self.at += 1
        self.at += 1

    def peek(self) -> str:
        """The next character that is not space."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more(WINDOW):
                raise self.broken()

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.broken()
        self.at += 1

    def value(self) -> tuple[str, Any]:
        self.peek()
        size = WINDOW
        while True:
            try:
                value, end = _decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # Doubling keeps a request of many megabytes from being decoded once per window.
                size *= 2
                if not self.more(size):
                    raise self.broken() from error
                continue
            raw, self.at = self.text[self.at : end], end
            return raw, value

    def more(self, size: int) -> bool:
        """Drop what was read, take in the next window; False at the end of the body."""
        raw = self.source.read(size)
        try:
            self.text = self.text[self.at :] + self.decode(raw, not raw)
        except UnicodeDecodeError as error:
            raise self.broken() from error
        self.at = 0
        return bool(raw)

    def broken(self) -> ApiError:
        return ApiError("The request body is not valid JSON.")
