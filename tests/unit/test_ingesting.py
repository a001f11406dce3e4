"""Any mixture of lines, in any order, cut and interrupted anywhere: each line and each entry is accounted for once."""

import json
import re
import struct
import tracemalloc
from asyncio import run
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overnight.batches import Outcome
from overnight.costs import tariff
from overnight.ingesting import Sorter, numbered
from overnight.positions import PositionSet
from overnight.providers import provider_facts
from overnight.providers._jsonl import LineSplitter, gathered
from overnight.providers.base import LineBlock, ProviderFacts, ResultPosition
from overnight.storage.result_rows import rows_of
from overnight.storage.results import IngestedBlock, Stray

ENTRIES = 6
POSITIONS = {f"e-{number}": number for number in range(1, ENTRIES + 1)}
TOKEN = "ab12cd34"
BATCH_ID = UUID(int=7)
FACTS = provider_facts("openai")
START = ResultPosition(source="output")


def line(custom_id: str, text: str = "", **usage: Any) -> bytes:
    body = {"choices": [{"message": {"content": text}}], "usage": usage}
    value = {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(value, ensure_ascii=False).encode()


async def positions(custom_ids: Sequence[str]) -> list[int | None]:
    return [POSITIONS.get(custom_id) for custom_id in custom_ids]


def sorter(seen: Iterable[int] = (), facts: ProviderFacts = FACTS) -> Sorter:
    return Sorter(
        batch_id=BATCH_ID,
        facts=facts,
        token=TOKEN,
        tariff=tariff("openai", "gpt-4o-mini"),
        positions=positions,
        seen=PositionSet(seen),
    )


UNESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


@dataclass(frozen=True)
class Row:
    """A row as Postgres would read it out of COPY's text."""

    position: int
    outcome: str
    usage: tuple[int, ...]
    costs: tuple[Decimal | None, ...]
    texts: tuple[str, ...]

    @property
    def line(self) -> str:
        return self.texts[-1]


def rows(block: IngestedBlock) -> list[Row]:
    """The rows of a block, the plain and the others."""
    plain = list(_plain_rows(block.plain))
    assert len(plain) == block.plain_count
    return [*plain, *(_row(text) for text in rows_of(BATCH_ID, block.results).decode().split("\n")[:-1])]


def _plain_rows(data: bytes) -> Iterator[Row]:
    """By the manual's page on COPY: 12 values, each behind its length."""
    if not data:
        return
    assert data.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
    place, read = 19, struct.unpack_from
    while (columns := read(">h", data, place)[0]) != -1:
        assert columns == 12
        place, values = place + 2, list[bytes | None]()
        for _ in range(columns):
            (length,) = read(">i", data, place)
            values.append(data[place + 4 : place + 4 + length] if length >= 0 else None)
            place += 4 + max(length, 0)
        batch_id, position, outcome, *counts, billed, listed, line = values
        assert (batch_id, outcome) == (BATCH_ID.bytes, b"succeeded")
        usage = tuple(int.from_bytes(count or b"") for count in counts)
        texts = ("", "", (line or b"").decode())
        yield Row(int.from_bytes(position or b""), "succeeded", usage, (_numeric(billed), _numeric(listed)), texts)
    assert place + 2 == len(data)


def _numeric(value: bytes | None) -> Decimal | None:
    if value is None:
        return None
    digits, weight, sign, places, *numbers = struct.unpack(f">hhHh{(len(value) - 8) // 2}H", value)
    assert (digits, sign) == (len(numbers), 0)
    assert 0 <= places <= 12
    exact = sum(Decimal(number).scaleb(4 * (weight - index)) for index, number in enumerate(numbers))
    assert exact == round(exact, places)  # or Postgres would cut it
    return Decimal(exact)


def _row(text: str) -> Row:
    batch_id, position, outcome, *rest = (
        re.sub(r"\\.", lambda found: UNESCAPED[found[0]], field) for field in text.split("\t")
    )
    assert batch_id == str(BATCH_ID)
    costs = tuple(Decimal(cost) if cost else None for cost in rest[6:8])
    return Row(int(position), outcome, tuple(map(int, rest[:6])), costs, tuple(rest[8:]))


@dataclass
class Database:
    """What is committed: nothing of a block, or all of it together with its position."""

    position: ResultPosition = START
    results: dict[int, Row] = field(default_factory=dict)
    strays: dict[tuple[int, int], Stray] = field(default_factory=dict)

    def commit(self, before: ResultPosition, after: ResultPosition, results: Any, strays: Any) -> None:
        assert self.position == before
        for result in results:
            assert result.position not in self.results
            self.results[result.position] = result
        for stray in strays:
            key = (after.offset, stray.number)
            assert key not in self.strays
            self.strays[key] = stray
        self.position = after


def blocks(file: bytes, cuts: list[int], position: ResultPosition) -> list[LineBlock]:
    edges = sorted({0, len(file), *(cut % (len(file) + 1) for cut in cuts)})
    splitter = LineSplitter(position)
    found = [splitter.feed(file[start:end]) for start, end in pairwise(edges)]
    return [block for block in (*found, splitter.finish()) if block is not None]


def ingest(file: bytes, lives: list[tuple[list[int], int]]) -> Database:
    """Each life reads with cuts of its own and dies after so many blocks, with one more sorted but not committed."""
    database = Database()
    for cuts, survived in [*lives, ([], 10**6)]:
        living = sorter(seen=database.results)
        position = database.position
        for number, block in enumerate(blocks(file, cuts, position)):
            sorted_out = run(living.sort(block, position))
            if number == survived:
                break
            database.commit(sorted_out.before, sorted_out.after, rows(sorted_out), sorted_out.strays)
            position = block.position
    return database


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_an_answer_whose_tokens_nobody_counted_costs_nobody_knows_what(usage: dict[str, int]) -> None:
    found = ingest(line("e-1", **usage) + b"\n" + line("e-2", prompt_tokens=1), [])
    assert found.results[1].outcome == "succeeded"
    assert found.results[1].costs == (None, None)
    assert None not in found.results[2].costs


valid = st.builds(lambda number, text: line(f"e-{number}", text), st.integers(1, ENTRIES), st.text(max_size=5))
unknown = st.sampled_from([line("e-0"), line("e-99"), line("somebody-elses")])
malformed = st.sampled_from(
    [b"{", b"null", b"[]", b"<html>", b'{"custom_id":7}', b"\xff\xfe", b'{"custom_id":"a b"}', b"\x00", b"{}"]
)
odd = st.sampled_from(
    [
        b'{"custom_id":"e-1","x":NaN}',
        b'{"custom_id":"e-2","x":"\\ud800"}',
        b'{"custom_id":"e-3"}\r',
        b'{"custom_id":"e-4","x":"\xff"}',
    ]
)
files = st.lists(st.one_of(valid, valid, unknown, malformed, odd), max_size=20)
lives = st.lists(st.tuples(st.lists(st.integers(0, 5000), max_size=8), st.integers(0, 6)), max_size=3)


def names(raw: bytes) -> str | None:
    """By other means than the code under test: the id that a line names."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"))
    except ValueError:
        return None
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    return custom_id if isinstance(custom_id, str) and " " not in custom_id else None


@given(files, lives, st.sampled_from([b"", b"\n", b"\r\n\n"]))
@example([line("e-1", "first"), line("e-1", "second")], [([60], 1)], b"\n")
def test_every_line_and_every_entry_is_accounted_for_across_crashes(
    lines: list[bytes], lives: list[tuple[list[int], int]], end: bytes
) -> None:
    file = b"\n".join(lines) + end
    database = ingest(file, lives)

    ours = [names(raw) for raw in lines if names(raw) in POSITIONS]
    kinds = Counter(stray.kind for stray in database.strays.values())
    assert kinds["malformed"] == sum(names(raw) is None for raw in lines)
    assert kinds["unknown"] == sum(names(raw) not in {None, *POSITIONS} for raw in lines)
    assert kinds["duplicate"] == len(ours) - len(set(ours))
    assert len(database.results) == len(set(ours))
    assert len(lines) == len(database.results) + len(database.strays)
    assert {f"e-{position}" for position in database.results} == set(ours)


@given(files, lives)
def test_the_first_line_of_an_entry_wins_across_crashes(lines: list[bytes], lives: list[tuple[list[int], int]]) -> None:
    first: dict[str, bytes] = {}
    for raw in lines:
        if (name := names(raw)) in POSITIONS:
            first.setdefault(name, raw.removesuffix(b"\r"))
    kept = {f"e-{position}": result.line for position, result in ingest(b"\n".join(lines), lives).results.items()}
    assert kept == {name: raw.decode("utf-8", "replace") for name, raw in first.items()}


def sort(*lines: bytes) -> tuple[list[Row], list[Stray]]:
    block = LineBlock(lines=lines, position=ResultPosition(source="output", offset=9))
    made = run(sorter().sort(block, ResultPosition(source="output")))
    return rows(made), list(made.strays)


def test_a_stray_keeps_its_bytes_and_its_number() -> None:
    _, strays = sort(line("e-1"), b"\xff\x00", line("e-1"), line("nobody"))
    assert [(stray.number, stray.kind, stray.custom_id) for stray in strays] == [
        (1, "malformed", None),
        (2, "duplicate", "e-1"),
        (3, "unknown", "nobody"),
    ]
    assert strays[0].line == b"\xff\x00"


def test_a_line_that_names_its_entry_stays_with_it_though_its_bytes_are_no_text() -> None:
    results, strays = sort(b'{"custom_id":"e-2","response":"\xff\xfe"}')
    assert not strays
    assert (results[0].position, results[0].outcome) == (2, Outcome.ERRORED)
    assert "\N{REPLACEMENT CHARACTER}" in results[0].line


@pytest.mark.parametrize("model", ["gpt-4o-mini", "nobody-knows-it"])
def test_plain_rows_and_careful_ones_say_the_same(model: str) -> None:
    prices, cached = tariff("openai", model), {"cached_tokens": 7}
    usage = {"prompt_tokens": 2**31 - 1, "completion_tokens": 12}
    # Anything that is not known yet makes all the difference.
    details = (cached, {**cached, "cache_write_tokens_details": {}}, cached)
    lines = [line(f"e-{place}", **usage, prompt_tokens_details=one) for place, one in enumerate(details, start=1)]
    block = LineBlock(lines=lines, position=ResultPosition(source="output", offset=9))
    made = run(replace(sorter(), tariff=prices).sort(block, START))
    assert (made.plain_count, [result.position for result in made.results]) == (2, [2])
    found = {row.position: row for row in rows(made)}
    assert (found[1].usage, found[1].costs) == (found[2].usage, found[2].costs)
    assert (found[1].costs == (None, None)) is not prices.is_known


def test_a_result_has_its_cost() -> None:
    results, _ = sort(line("e-3", prompt_tokens=1_000_000, completion_tokens=0))
    assert results[0].costs == (Decimal("0.075"), Decimal("0.15"))
    assert results[0].usage == (1_000_000, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("fees", [{}, {"search": Decimal(25)}])
def test_an_answer_that_does_not_tell_its_calls_costs_a_fee_for_one_or_nobody_knows_what(
    fees: dict[str, Decimal],
) -> None:
    refused = json.dumps({"custom_id": "e-3", "error": {"code": "no"}}).encode()
    lines = [line("e-1", prompt_tokens=10**6), line("e-2", prompt_tokens=10**6), refused]
    block = LineBlock(lines=lines, position=ResultPosition(source="output", offset=9))
    made = run(replace(sorter(), untold={"search": {2, 3}}, fees=fees).sort(block, START))
    costs = {row.position: row.costs for row in rows(made)}
    assert costs[1] == (Decimal("0.075"), Decimal("0.15"))
    assert costs[2] == ((Decimal("0.1"), Decimal("0.175")) if fees else (None, None))
    assert costs[3] == (0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 50}},
        {"prompt_tokens": -1},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 10**30, "completion_tokens": True},
    ],
)
def test_an_odd_usage_stops_nothing(usage: dict[str, Any]) -> None:
    results, strays = sort(line("e-3", **usage))
    assert (len(results), len(strays)) == (1, 0)


def test_anthropics_lines_are_ours_by_their_token_only() -> None:
    facts = provider_facts("anthropic")
    lines = [
        json.dumps({"custom_id": custom_id, "result": {"type": "canceled"}}).encode()
        for custom_id in (f"e-1-{TOKEN}", "e-2", "e-3-zzzzzzzz", f"e-1-{TOKEN}", f"e-99-{TOKEN}")
    ]
    made = run(sorter(facts=facts).sort(LineBlock(lines=lines, position=ResultPosition(offset=1)), ResultPosition()))
    assert [(result.position, result.outcome) for result in rows(made)] == [(1, Outcome.CANCELED)]
    assert [stray.kind for stray in made.strays] == ["unknown", "unknown", "duplicate", "unknown"]


async def streamed(count: int) -> AsyncIterator[LineBlock]:
    """Blocks as they come off the wire, of lines that nobody holds."""
    for start in range(0, count, 100):
        lines = [line(f"e-{number}", "x" * 200, prompt_tokens=1) for number in range(start + 1, start + 101)]
        yield LineBlock(
            lines=lines, position=ResultPosition(source="output", offset=(start + 100) * 400), is_ascii=True
        )


async def peak_while_sorting(count: int) -> int:
    sorting = replace(sorter(), positions=numbered("e", count)).sorted(gathered(streamed(count), size=100_000), START)
    tracemalloc.start()
    async for block in sorting:
        assert block.plain
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


async def test_ten_times_the_lines_are_sorted_in_the_same_memory() -> None:
    small, large = await peak_while_sorting(2_000), await peak_while_sorting(20_000)
    # What pydantic keeps of short strings is bounded, and under a megabyte; the ids alone would be three.
    assert large - small < 1_500_000


ends = st.one_of(st.integers(-5, 10**7).map(str), st.text(max_size=4), st.from_regex(r"\A0*\d+\Z"))


@given(st.integers(1, 10**6), ends)
def test_a_numbered_id_is_found_exactly_as_it_was_made(count: int, end: str) -> None:
    found = run(numbered("Ask-2", count)([f"Ask-2-{end}", f"ask-2-{end}", end, ""]))
    made = end.isdecimal() and end.isascii() and str(int(end)) == end and 1 <= int(end) <= count
    assert list(found) == [int(end) if made else None, None, None, None]


@pytest.mark.parametrize(("usage", "known"), [({"prompt_tokens": 7}, True), ({}, False)])
def test_a_line_that_cannot_be_read_has_the_cost_that_can_be_told_from_it(
    usage: dict[str, int], *, known: bool
) -> None:
    results, _ = sort(line("e-3", "NOT", **usage).replace(b'"NOT"', b"NaN"))
    assert results[0].texts[0] == "unreadable_line"
    assert (results[0].costs != (None, None)) is known
