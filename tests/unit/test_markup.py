"""HTML from a model: nothing in it that could do harm, links as they should be."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from overnight import markup
from overnight.errors import MissingExtraError, ResponseError
from overnight.markup import Html
from overnight.providers.base import Response
from overnight.tasks import Task


class Describe(Task[Html], name="markup: describe"):
    def prompt(self) -> str:
        return "?"


class Page(BaseModel):
    body: Html


def read(text: str) -> str:
    return Describe().read(Response(text=text))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("<p>a <b>b</b></p>", "<p>a <b>b</b></p>"),
        ("<p onclick=x()>a<script>alert(1)</script><style>p{}</style></p>", "<p>a</p>"),
        ('<a href="javascript:x()">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ("<form><input><marquee>a</marquee></form>", "a"),
        ("<header><bdo>a</bdo></header>", "a"),
        ('<img src="https://x.example/a.png" onerror="x()">', '<img src="https://x.example/a.png">'),
        ("```html\n<p>a</p>\n```", "<p>a</p>"),
        ("a < b & c", "a &lt; b &amp; c"),
    ],
)
def test_only_what_is_on_the_list_stays(written: str, kept: str) -> None:
    assert read(written) == kept


@pytest.mark.parametrize(
    ("written", "href"),
    [
        ("[a](https://x.example/b?c=d&e=f)", "https://x.example/b?c=d&amp;e=f"),
        ('[a](https://x.example/ "title")', "https://x.example/"),
        ("[a](https://x.example/?utm_source=m&b=c&UTM_medium=n)", "https://x.example/?b=c"),
        ('<a href="https://x.example/b?utm_source=m#c">a</a>', "https://x.example/b#c"),
        ('<a href="https://x.example/b?c=utm_d">a</a>', "https://x.example/b?c=utm_d"),
    ],
)
def test_links_are_links_and_carry_no_tracking(written: str, href: str) -> None:
    assert read(written) == f'<a href="{href}" rel="noopener noreferrer">a</a>'


@pytest.mark.parametrize("written", ["[a](javascript:x)", "![a](https://x.example/a.png)", "[a] (https://x.example)"])
def test_what_is_no_link_to_a_page_stays_text(written: str) -> None:
    assert read(written) == written


def test_a_markdown_link_cannot_smuggle_an_attribute_in() -> None:
    assert "<a" not in read('[a](https://x.example/"onclick="x)')
    assert read("[<b onclick=x>a</b>](https://x.example/)").count("onclick") == 0


def test_html_inside_a_model_is_sanitised_too() -> None:
    assert TypeAdapter(Page).validate_json('{"body":"<i>a</i><script>x</script>"}').body == "<i>a</i>"
    assert isinstance(Page(body="<i>"), Page)


def test_an_answer_of_which_nothing_is_left_is_blank() -> None:
    with pytest.raises(ResponseError) as caught:
        read("<script>alert(1)</script>")
    assert caught.value.code == "blank"


def test_no_schema_is_asked_for_and_the_output_survives_being_stored() -> None:
    assert Describe().render().output_schema is None
    fragment = Html("<p>a</p>")
    again = Describe.load_output(Describe.dump_output(fragment))
    assert (again, type(again)) == (fragment, Html)


@given(st.text(max_size=200))
def test_to_sanitise_twice_is_to_sanitise_once(text: str) -> None:
    once = Html(text)
    assert Html(str(once)) == once


def test_without_its_package_html_is_refused_before_anything_is_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fresh(Task[Html], name="markup: fresh"):
        def prompt(self) -> str:
            return "?"

    monkeypatch.setitem(sys.modules, "nh3", None)
    markup.sanitiser.cache_clear()
    with pytest.raises(MissingExtraError, match=r"overnight\[html\]"):
        Fresh().render()
    markup.sanitiser.cache_clear()
