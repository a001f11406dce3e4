"""How a campaign is cut into batches, and how many run at once: whatever the sizes, whatever the provider says."""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from overnight.pace import Pace
from overnight.planning import Planner, Share
from overnight.providers import provider_facts
from overnight.providers.base import Limits

SHARES = st.builds(
    Share,
    max_entries=st.integers(1, 20),
    max_bytes=st.integers(200, 2_000),
    frame_bytes=st.integers(0, 60),
    max_inputs=st.none() | st.integers(3, 30),
)
ENTRIES = st.lists(st.tuples(st.integers(1, 140), st.integers(1, 3)), max_size=200)
"""Bytes and inputs of each."""

Entry = tuple[int, int]


def fits(share: Share, held: Sequence[Entry]) -> bool:
    return (
        len(held) <= share.max_entries
        and sum(size + share.frame_bytes for size, _ in held) <= share.max_bytes
        and (share.max_inputs is None or sum(inputs for _, inputs in held) <= share.max_inputs)
    )


def planned(planner: Planner, entries: Iterable[Entry]) -> list[tuple[int, int, Entry]]:
    """(batch, position, entry) of each, placed as the storage places them."""
    batch, rows = 0, []
    for entry in entries:
        if not planner.has_room(*entry):
            batch += 1
            planner.open_next()
        rows.append((batch, planner.take(*entry), entry))
    return rows


def in_batches(rows: Iterable[tuple[int, int, Entry]]) -> list[list[tuple[int, Entry]]]:
    return [[(position, entry) for _, position, entry in group] for _, group in groupby(rows, key=lambda row: row[0])]


@given(SHARES, ENTRIES)
def test_no_entry_is_lost_or_doubled_and_every_batch_keeps_every_limit(share: Share, entries: list[Entry]) -> None:
    rows = planned(Planner(share), entries)

    assert [entry for _, _, entry in rows] == entries
    for held in in_batches(rows):
        assert [position for position, _ in held] == list(range(1, len(held) + 1))
        assert fits(share, [entry for _, entry in held])


@given(SHARES, ENTRIES)
def test_a_batch_is_only_left_when_the_next_entry_would_not_fit(share: Share, entries: list[Entry]) -> None:
    for held, following in pairwise(in_batches(planned(Planner(share), entries))):
        assert not fits(share, [entry for _, entry in [*held, following[0]]])


@given(SHARES, ENTRIES, st.integers(0, 200))
def test_adding_in_two_calls_fills_the_same_batches_as_adding_in_one(
    share: Share, entries: list[Entry], cut: int
) -> None:
    def positions(planner: Planner, some: list[Entry]) -> list[int]:
        return [position for _, position, _ in planned(planner, some)]

    first = Planner(share)
    before = positions(first, entries[:cut])
    held = {"entry_count": first.entry_count, "request_bytes": first.request_bytes, "input_count": first.input_count}
    assert before + positions(Planner(share, **held), entries[cut:]) == positions(Planner(share), entries)


def test_a_share_stays_a_twentieth_below_the_providers_limits() -> None:
    limits = Limits(max_entries=50_000, max_bytes=200_000_000, custom_id_pattern=".*")
    assert Share.of(limits, frame_bytes=9) == Share(max_entries=47_500, max_bytes=190_000_000, frame_bytes=9)
    assert Share.of(limits, frame_bytes=9, max_entries=10).max_entries == 10
    assert Share.of(limits, frame_bytes=9, max_entries=10**9).max_entries == 47_500


def test_every_provider_says_which_errors_another_try_may_heal() -> None:
    for name in ("openai", "anthropic"):
        codes = provider_facts(name).retryable_codes
        assert {"http_429", "http_500", "http_503", "http_0"} <= set(codes)
        assert not {"http_400", "invalid_request_error", "http_404", "content_filter", "insufficient_quota"} & set(
            codes
        )


def test_a_refusal_halves_the_pace_once_and_holds_everything_until_there_is_room() -> None:
    pace = Pace.fresh(10)
    held = pace.after(ended=0, refused=True)
    assert (held.limit, held.starts(2)) == (5, 0)
    assert held.after(ended=3, refused=True) == held
    free = held.after(ended=0, refused=False)
    assert (free.limit, free.starts(2)) == (5, 3)
    assert free.after(ended=0, refused=True).limit == 2


def test_the_pace_grows_by_one_for_as_many_batches_as_it_counts() -> None:
    pace = Pace(maximum=4, limit=2)
    limits = []
    for _ in range(9):
        pace = pace.after(ended=1, refused=False)
        limits.append(pace.limit)
    assert limits == [2, 3, 3, 3, 4, 4, 4, 4, 4]


def test_refused_batches_go_again_where_others_ended_and_else_one_at_a_time() -> None:
    """Ten run, seven of them without room; then four, one of them; then four, all of them."""

    def goes_again(limit: int, refused: int, running: int) -> list[int]:
        pace = Pace(maximum=10, limit=limit, is_held=True)
        looks = [(True, False), (False, True), (False, False)]
        return [pace.goes_again(refused=refused, running=running, ended=e, waited=w) for e, w in looks]

    assert goes_again(5, 7, 10) == [2, 1, 0]
    assert goes_again(2, 1, 4) == [0, 0, 0]  # halved, and three still run
    assert goes_again(2, 4, 4) == [2, 1, 0]
    assert goes_again(2, 0, 4) == [0, 0, 0]


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=50))
def test_the_pace_stays_between_one_and_what_the_campaign_allows(maximum: int, looks: list[tuple[int, bool]]) -> None:
    pace = Pace.fresh(maximum)
    for ended, refused in looks:
        pace = pace.after(ended=ended, refused=refused)
        assert 1 <= pace.limit <= maximum
        assert 0 <= pace.starts(0) <= maximum
        assert pace.starts(0) > 0 or refused
