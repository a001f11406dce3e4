from hypothesis import given
from hypothesis import strategies as st

from overnight.positions import PositionSet

positions = st.integers(1, 5_000)


@given(st.lists(st.tuples(st.booleans(), positions)))
def test_it_is_a_set(steps: list[tuple[bool, int]]) -> None:
    ours, real = PositionSet(), set[int]()
    for adds, position in steps:
        if adds:
            assert ours.put([position, None, position]) == [position not in real, False, False]
            real.add(position)
        else:
            ours.discard(position)
            real.discard(position)
    assert ours == real
    assert (len(ours), sorted(real)) == (len(real), list(ours))
    assert all((position in ours) is (position in real) for position in range(1, 5_010))


def test_a_hundred_thousand_take_some_kilobytes() -> None:
    whole = PositionSet(range(1, 100_001))
    assert len(whole) == 100_000
    assert len(whole._bits) < 13_000
