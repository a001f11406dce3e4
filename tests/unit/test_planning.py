"""How a campaign is cut into batches, and how many run at once: whatever the sizes, whatever the provider says."""

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
SIZES = st.lists(st.integers(1, 140), max_size=200)


def planned(share: Share, sizes: list[int]) -> list[tuple[int, int, int]]:
    """(batch, position, size) of each entry, placed as the storage places them."""
    planner, batch, rows = Planner(share), 0, []
    for size in sizes:
        if not planner.has_room(size):
            batch += 1
            planner.open_next()
        rows.append((batch, planner.take(size), size))
    return rows


@given(SHARES, SIZES)
def test_no_entry_is_lost_or_doubled_and_every_batch_keeps_every_limit(share: Share, sizes: list[int]) -> None:
    rows = planned(share, sizes)

    assert [size for _, _, size in rows] == sizes
    for _, group in groupby(rows, key=lambda row: row[0]):
        held = [(position, size) for _, position, size in group]
        assert [position for position, _ in held] == list(range(1, len(held) + 1))
        assert len(held) <= share.max_entries
        assert sum(size + share.frame_bytes for _, size in held) <= share.max_bytes


@given(SHARES, SIZES)
def test_a_batch_is_only_left_when_the_next_entry_would_not_fit(share: Share, sizes: list[int]) -> None:
    batches = [[size for _, _, size in group] for _, group in groupby(planned(share, sizes), key=lambda row: row[0])]

    for batch, following in pairwise(batches):
        one_more = [*batch, following[0]]
        framed = sum(size + share.frame_bytes for size in one_more)
        assert len(one_more) > share.max_entries or framed > share.max_bytes


@given(SHARES, SIZES, st.integers(0, 200))
def test_adding_in_two_calls_fills_the_same_batches_as_adding_in_one(share: Share, sizes: list[int], cut: int) -> None:
    def filled(planner: Planner, some: list[int]) -> list[int]:
        counts = []
        for size in some:
            if not planner.has_room(size):
                planner.open_next()
            counts.append(planner.take(size))
        return counts

    first = Planner(share)
    before = filled(first, sizes[:cut])
    second = Planner(share, entry_count=first.entry_count, request_bytes=first.request_bytes)
    assert before + filled(second, sizes[cut:]) == filled(Planner(share), sizes)


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


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=50))
def test_the_pace_stays_between_one_and_what_the_campaign_allows(maximum: int, looks: list[tuple[int, bool]]) -> None:
    pace = Pace.fresh(maximum)
    for ended, refused in looks:
        pace = pace.after(ended=ended, refused=refused)
        assert 1 <= pace.limit <= maximum
        assert 0 <= pace.starts(0) <= maximum
        assert pace.starts(0) > 0 or refused
