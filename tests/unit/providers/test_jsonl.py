from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import TransientProviderError
from overnight.providers._jsonl import KEPT_OF_LONG_LINE, LineSplitter, gathered
from overnight.providers.base import LineBlock, ResultPosition


def split(data: bytes, cuts: list[int], offset: int = 0, max_line: int = 10**9) -> list[LineBlock]:
    splitter = LineSplitter(ResultPosition(source="s", offset=offset), max_line=max_line)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [splitter.feed(data[a:b]) for a, b in pairwise(edges)]
    assert splitter.missing == 0
    return [block for block in [*blocks, splitter.finish()] if block]


def lines(blocks: list[LineBlock]) -> list[bytes]:
    return [line for block in blocks for line in block.lines]


def plain(data: bytes) -> list[bytes]:
    """The definition, in the simplest words."""
    return [line.removesuffix(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]


pieces = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b" ",
        b"\r",
        b"{}",
        b'{"a":1}',
        "\u2028".encode(),
        "\x85\u2029".encode(),
        b"\x0b\x0c\x1c",
        b"\xff",
        b"\n\xef\xbb\xbf",
    ]
)
files = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(pieces, max_size=30).map(b"".join)).map(b"".join)
cut_points = st.lists(st.integers(0, 120), max_size=8)


@given(files, cut_points)
def test_where_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    assert lines(split(data, cuts)) == plain(data)


@given(files, cut_points, cut_points)
def test_reading_on_from_any_position_gives_exactly_the_rest(data: bytes, cuts: list[int], others: list[int]) -> None:
    blocks = split(data, cuts)
    for done, block in enumerate(blocks, start=1):
        rest = split(data, others, offset=block.position.offset)
        assert lines(blocks[:done]) + lines(rest) == plain(data)


@given(files, cut_points)
def test_positions_grow_and_stand_behind_a_line_end(data: bytes, cuts: list[int]) -> None:
    offsets = [block.position.offset for block in split(data, cuts)]
    assert offsets == sorted(set(offsets))
    assert all(offset == len(data) or data[offset - 1 : offset] == b"\n" for offset in offsets)


def test_line_separators_of_unicode_stay_inside_a_line() -> None:
    line = '{"text":"a\u2028b\u2029c\x85d"}'.encode()
    assert lines(split(line + b"\n" + line, [])) == [line, line]


def test_a_position_behind_the_end_is_noticed() -> None:
    splitter = LineSplitter(ResultPosition(source="s", offset=10))
    splitter.feed(b"{}\n")
    assert splitter.missing == 7


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_an_endless_line_is_cut_and_the_next_ones_are_read(step: int) -> None:
    data = b"{}\n" + b"x" * 20_000 + b"\n[]\n"
    blocks = split(data, list(range(0, len(data), step)), max_line=10_000)
    first, cut, last = lines(blocks)
    assert (first, cut, last) == (b"{}", b"x" * KEPT_OF_LONG_LINE, b"[]")
    assert blocks[-1].position.offset == len(data)


def test_an_endless_last_line_keeps_its_place_in_the_count() -> None:
    data = b"y" * 5000
    (block,) = split(data, list(range(0, 5000, 100)), max_line=2000)
    assert block.position.offset == 5000


# Larger blocks.


async def blocks_of(data: bytes, step: int, error: Exception | None = None) -> AsyncIterator[LineBlock]:
    for block in split(data, list(range(0, len(data), step))):
        yield block
    if error:
        raise error


async def test_small_blocks_become_larger_ones_with_the_same_lines() -> None:
    data = b"".join(b"%d\n" % number for number in range(1000))
    found = [block async for block in gathered(blocks_of(data, 50), size=900)]
    assert lines(found) == data.split()
    assert [block.position.offset for block in found][-1] == len(data)
    assert 2 < len(found) < 6


async def test_a_block_is_ascii_where_all_of_its_parts_are() -> None:
    data = '{"a":1}\n{"a":"ä"}\n{"a":2}\n'.encode()
    assert [block.is_ascii async for block in gathered(blocks_of(data, 8))] == [False]
    assert [block.is_ascii async for block in gathered(blocks_of(data, 8), size=1)] != [False]
    assert [block.is_ascii async for block in gathered(blocks_of(b"{}\n{}\n", 3))] == [True]


async def test_what_came_before_an_error_is_not_lost_with_it() -> None:
    found: list[LineBlock] = []
    broken = TransientProviderError("openai", "read", "cut")

    async def read() -> None:
        async for block in gathered(blocks_of(b"1\n2\n3\n", 2, broken)):
            found.append(block)  # noqa: PERF401 - the error is the point

    with pytest.raises(TransientProviderError):
        await read()
    assert lines(found) == [b"1", b"2", b"3"]
