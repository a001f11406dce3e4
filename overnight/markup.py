"""HTML that a model wrote, made safe to show."""

import html
import re
from functools import cache
from types import ModuleType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from overnight.errors import MissingExtraError

TAGS = frozenset(
    {
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "dd",
        "del",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
    }
)
"""What is kept. Of everything else the text stays, and of scripts and styles nothing does."""

ATTRIBUTES = {
    "a": {"href", "title"},
    "abbr": {"title"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
SCHEMES = frozenset({"http", "https", "mailto", "tel"})

_FENCED = re.compile(r"\A\s*```[a-z]*[ \t]*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_MARKDOWN_LINK = re.compile(r'(?<!!)\[([^\[\]\n]{1,1000})\]\((https?://[^\s()<>"]{1,2000})(?:[ \t]+"[^"\n]{0,500}")?\)')


class Html(str):
    """An HTML fragment with nothing in it but tags and attributes from a list: `class Describe(Task[Html])`.

    Whatever becomes an `Html` is sanitised then, and links lose their `utm_` parameters. In a whole answer that a Task
    reads, Markdown code fences are taken off and Markdown links become links as well.

    Raises:
        MissingExtraError: the extra `html` is not installed.
    """

    __slots__ = ()

    def __new__(cls, text: str = "") -> Self:
        return super().__new__(cls, text if type(text) is cls else _sanitised(text))

    @classmethod
    def from_answer(cls, text: str) -> Self:
        """The fragment in an answer, as models like to write it."""
        return cls(_MARKDOWN_LINK.sub(_link, without_fence(text)))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def without_fence(text: str) -> str:
    """Models that were only asked for JSON or HTML like to wrap it as Markdown code."""
    fenced = _FENCED.match(text)
    return fenced.group(1) if fenced else text


@cache
def sanitiser() -> ModuleType:
    """The library that sanitises.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import nh3  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("Html", "html") from None
    return nh3


def _sanitised(text: str) -> str:
    clean: str = sanitiser().clean(
        text,
        tags=set(TAGS),
        attributes=ATTRIBUTES,
        url_schemes=set(SCHEMES),
        attribute_filter=_without_tracking,
    )
    return clean


def _link(found: re.Match[str]) -> str:
    return f'<a href="{html.escape(found[2])}">{found[1]}</a>'


def _without_tracking(tag: str, attribute: str, value: str) -> str:
    """A link without its `utm_` parameters; all other attributes, and links that are none, stay as they are."""
    if (tag, attribute) != ("a", "href") or "utm_" not in value.lower():
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return value
    kept = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not pair[0].lower().startswith("utm_")]
    return urlunsplit(parts._replace(query=urlencode(kept)))
