"""Charts as numbers: what the templates draw as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from overnight.batches import Outcome
from overnight.storage.console_values import Spending

_NOTHING = Spending(
    batches=0, entries=0, unpriced=0, input_tokens=0, output_tokens=0, billed=Decimal(0), list_price=Decimal(0)
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One day. Heights are percent of the chart's."""

    day: date
    spending: Spending
    billed: float
    list_price: float


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a bar; place and width are percent of the bar's."""

    outcome: Outcome
    count: int
    start: float
    width: float


def per_day(days: Mapping[date, Spending], *, first: date, last: date) -> Sequence[Column]:
    """A column for every day, those without batches included."""
    all_days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    spent = {day: days.get(day, _NOTHING) for day in all_days}
    top = highest(spent)
    return [
        Column(
            day=day,
            spending=spending,
            billed=percent(spending.billed, top),
            list_price=percent(max(spending.list_price, spending.billed), top),
        )
        for day, spending in spent.items()
    ]


def highest(days: Mapping[date, Spending]) -> Decimal:
    """The chart's upper end."""
    return max((max(spending.list_price, spending.billed) for spending in days.values()), default=Decimal(0))


def percent(part: Decimal | int, whole: Decimal | int) -> float:
    """For coordinates; of nothing it is nothing."""
    return round(float(100 * part / whole), 2) if whole else 0.0


def stretches(outcomes: Mapping[Outcome, int], total: int | None = None) -> Iterator[Stretch]:
    """One bar of all outcomes, in the order of the words; what is missing of the total stays empty."""
    total, start = total or sum(outcomes.values()), 0.0
    for outcome in Outcome:
        if count := outcomes.get(outcome, 0):
            width = percent(count, total)
            yield Stretch(outcome=outcome, count=count, start=round(start, 2), width=width)
            start += width
