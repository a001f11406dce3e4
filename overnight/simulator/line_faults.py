"""Faults inside result files: some change what an entry answers, some what becomes of its line."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from overnight.simulator.faults import LineEffect
from overnight.simulator.jsontext import dump, parse
from overnight.simulator.models import NO_VALUE, ModelReply, ModelRequest, Responder, ToolCall

IN_ANSWER = {"line_separator": "\u2028", "nul": "\x00", "lone_surrogate": "\ud800"}
WRONG_SHAPES: tuple[Any, ...] = (
    [],
    "text",
    42,
    None,
    {},
    {"custom_id": "$id"},
    {"custom_id": 7, "response": None, "error": None},
    {"custom_id": "$id", "response": "nope", "error": 7, "result": "nope"},
    {"custom_id": "$id", "response": {"status_code": "200", "body": []}, "error": None, "result": {"type": 3}},
    {
        "custom_id": "$id",
        "response": {"status_code": 200, "request_id": "req", "body": {"choices": [{"message": None}], "output": 5}},
        "error": None,
        "result": {"type": "succeeded", "message": {"content": None, "usage": None}},
    },
)


class Quota:
    """How many lines each effect may still meet."""

    def __init__(self, effects: Iterable[LineEffect]) -> None:
        self.left = [[effect, effect.count] for effect in effects]

    def take(self, custom_id: str) -> list[LineEffect]:
        taken = []
        for row in self.left:
            effect, count = row
            assert isinstance(effect, LineEffect)
            if count != 0 and effect.fits(custom_id):
                row[1] = None if count is None else int(str(count)) - 1
                taken.append(effect)
        return taken


class SpoilingResponder:
    """Puts characters that are hard to survive into the answers of the entries that a fault names."""

    def __init__(self, effects: Sequence[LineEffect], behind: Responder) -> None:
        self.quota = Quota(effects)
        self.behind = behind

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        reply = self.behind(request)
        for effect in self.quota.take(str(request.custom_id)):
            reply = _spoiled(reply, effect)
        return reply


def spoils_answers(effect: LineEffect) -> bool:
    return effect.how in IN_ANSWER or effect.how == "huge"


def _spoiled(reply: ModelReply, effect: LineEffect) -> ModelReply:
    if effect.how == "huge":
        return ModelReply(text="night " * (effect.size // 6) + "." * (effect.size % 6), uncut=True)
    mark = IN_ANSWER[effect.how]
    if reply.tool_calls:
        calls = tuple(ToolCall(name=c.name, arguments=_marked(c.arguments, mark)) for c in reply.tool_calls)
        return replace(reply, tool_calls=calls)
    if reply.value is not NO_VALUE:
        return replace(reply, value=_marked(reply.value, mark))
    return replace(reply, text=_marked(reply.text or "", mark))


def _marked(value: Any, mark: str) -> Any:
    """The mark in the middle of every string inside a value; numbers and keys stay what they are."""
    if isinstance(value, str):
        return value[: len(value) // 2] + mark + value[len(value) // 2 :]
    if isinstance(value, Mapping):
        return {key: _marked(part, mark) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(part, mark) for part in value]
    return value


class LineSpoiler:
    """Rewrites result lines on their way into a file. One per batch: its quota spans both of OpenAI's files."""

    def __init__(self, effects: Sequence[LineEffect]) -> None:
        self.quota = Quota(effects)
        self.shapes = 0
        self.strangers = 0

    def spoil(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        again: list[bytes] = []
        for line in lines:
            kept: bytes | None = line
            for effect in self.quota.take(str(parse_id(line))):
                kept = self._applied(effect, line, kept, again)
            if kept is not None:
                yield kept
        yield from again

    def _applied(self, effect: LineEffect, line: bytes, kept: bytes | None, again: list[bytes]) -> bytes | None:
        match effect.how:
            case "missing":
                return None
            case "duplicate":
                again.append(line)
            case "unknown_id":
                self.strangers += 1
                again.append(dump({**_read(line), "custom_id": f"nobody-sent-this-{self.strangers}"}) + b"\n")
            case "malformed":
                return line[: len(line) // 2] + b"\n"
            case "wrong_shape":
                return self._wrong_shape(parse_id(line))
            case _:
                pass
        return kept

    def _wrong_shape(self, custom_id: Any) -> bytes:
        shape = WRONG_SHAPES[self.shapes % len(WRONG_SHAPES)]
        self.shapes += 1
        if isinstance(shape, dict) and shape.get("custom_id") == "$id":
            shape = {**shape, "custom_id": custom_id}
        return dump(shape) + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    found = parse(line.replace(b"\\ud800", b"?"))
    assert isinstance(found, dict)
    return found


def parse_id(line: bytes) -> Any:
    return _read(line)["custom_id"]
