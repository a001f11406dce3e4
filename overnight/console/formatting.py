"""Values as people read them, and foreign texts as nothing but text."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from markupsafe import Markup, escape

# What cannot be seen, or turns the direction of its neighbors: control characters, bidi marks and overrides, tags, lone
# surrogates. Joiners are left alone: emoji and several scripts are spelled with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMELESS = "-"
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def _picture(character: str) -> str:
    return f"U+{ord(character):04X}"


def plain(text: str) -> str:
    """A text in which everything can be seen, for attributes and titles."""
    return _UNSEEN.sub(lambda found: _picture(found[0]), text)


def visible(text: str) -> Markup:
    """The same as HTML: what had to be made visible stands out, and the text's direction stays its own."""
    at = 0
    pieces: list[Markup] = []
    for found in _UNSEEN.finditer(text):
        mark = Markup('<span class="unseen">{}</span>').format(_picture(found[0]))
        pieces += [escape(text[at : found.start()]), mark]
        at = found.end()
    pieces.append(escape(text[at:]))
    return Markup("<bdi>{}</bdi>").format(Markup("").join(pieces))


def short(text: str, length: int = 80) -> Markup:
    """The beginning of a text that is only a name."""
    return visible(text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}")


def money(amount: Decimal | None) -> str:
    """US dollars, to the hundredth of a cent; a sum that is not known is not zero."""
    if amount is None:
        return "unknown"
    if 0 < amount < Decimal("0.0001"):
        return "< $0.0001"
    return f"${amount:,.4f}"


def dollars(amount: Decimal | None) -> str:
    """The same for a headline: to the cent, where there are more than a few of them."""
    return f"${amount:,.2f}" if amount is not None and amount >= 1 else money(amount)


def number(count: int) -> str:
    """With thousands apart."""
    return f"{count:,}"


def share(part: int | Decimal, whole: int | Decimal) -> str:
    """Percent; neither "100 %" nor "0 %" unless it is all or nothing."""
    if not whole:
        return _NAMELESS
    percent = 100 * Decimal(part) / Decimal(whole)
    if 0 < percent < Decimal("0.1"):
        return "< 0.1 %"
    return "> 99.9 %" if Decimal("99.9") < percent < 100 else f"{percent:.1f} %"


def size(count: int) -> str:
    """Bytes, in the unit that fits."""
    amount = Decimal(count)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(time: timedelta) -> str:
    """Roughly, in the two largest units."""
    seconds = int(time.total_seconds())
    for step, unit in _STEPS:
        if abs(seconds) >= step:
            whole, rest = divmod(seconds, step)
            smaller = {"d": (3_600, "h"), "h": (60, "min"), "min": (1, "s")}[unit]
            return f"{whole} {unit} {rest // smaller[0]} {smaller[1]}"
    return f"{time.total_seconds():.1f} s"


def moment(at: datetime) -> Markup:
    """An instant in UTC, for people and for machines."""
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M}")


def exact(at: datetime) -> Markup:
    """The same to the second."""
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}")


def word(name: str) -> str:
    """One of our own words, as a sentence has it."""
    return name.replace("_", " ")
