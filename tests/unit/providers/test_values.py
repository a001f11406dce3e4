from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overnight.providers._values import MAX_COUNT, clean, clean_code, count

anything = (
    st.lists(st.sampled_from(["\ud800", "\0", "\u2028", "a", "ż", "🦉"])).map("".join)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
)


@given(anything | st.lists(anything) | st.dictionaries(st.text(), anything))
def test_every_text_for_the_database_can_be_stored(value: Any) -> None:
    for text in (clean(value), clean_code(value)):
        if text is not None:
            assert "\0" not in text
            assert text
            text.encode()


@given(anything | st.lists(anything))
def test_every_count_is_a_count(value: Any) -> None:
    assert 0 <= count(value) <= MAX_COUNT
    assert type(count(value)) is int
