"""Addresses are read with care: each place is found again, and nonsense is told as such."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from starlette.datastructures import QueryParams

from overnight.batches import BatchStatus, Outcome
from overnight.console import addresses
from overnight.console.addresses import AddressError, TemporalUi, address
from overnight.console.charts import per_day, stretches
from overnight.storage.console_values import BatchChoice, Edge, Place, Spending, StrayPlace

BATCH_ID = UUID("01a201c2-3cab-730e-8aad-102fd31e8596")
NOW = datetime(2026, 11, 22, 6, 0, 0, 123456, tzinfo=UTC)


def test_filters_come_back_from_the_address_as_they_went_in() -> None:
    choice = BatchChoice(status=BatchStatus.FAILED, provider="openai", model="a&b=c", handler="Ü x", troubled=True)
    query = QueryParams(address("/", addresses.choice_query(choice)).partition("?")[2])
    assert addresses.choice_of(query) == choice
    assert addresses.choice_of(QueryParams("")) == BatchChoice()


def test_places_come_back_from_the_address_as_they_went_in() -> None:
    query = QueryParams({"newer": f"{NOW.isoformat()}~{BATCH_ID}"})
    assert addresses.edge_of(query) == Edge(NOW, BATCH_ID, backwards=True)
    assert addresses.place_of(QueryParams("before=7")) == Place(7, backwards=True)
    assert [addresses.round_of(QueryParams(query)) for query in ("", "round=2")] == [None, 2]
    stray = StrayPlace("out~put", 12, 3)
    assert addresses.stray_place_of(addresses.stray_text(stray)) == stray


@pytest.mark.parametrize("given", ["x", "2026-11-22T06:00:00~" + str(BATCH_ID), f"{NOW.isoformat()}~7", "~"])
def test_an_edge_that_names_no_batch_is_refused(given: str) -> None:
    with pytest.raises(AddressError, match="older"):
        addresses.edge_of(QueryParams({"older": given}))


@pytest.mark.parametrize("given", ["-1", "1.5", "x", "\u0663", "9" * 5_000, str(2**31)])
def test_a_position_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(AddressError, match="position"):
        addresses.position_of(given)


def test_words_and_lengths_that_there_are_not_are_refused() -> None:
    with pytest.raises(AddressError, match="status"):
        addresses.choice_of(QueryParams("status=done"))
    with pytest.raises(AddressError, match="model"):
        addresses.choice_of(QueryParams("model=%00"))
    with pytest.raises(AddressError, match="outcome"):
        addresses.outcome_of(QueryParams("outcome=x"))
    with pytest.raises(AddressError, match="round"):
        addresses.round_of(QueryParams("round=32768"))
    with pytest.raises(AddressError, match="days"):
        addresses.days_of(QueryParams("days=31"))
    with pytest.raises(AddressError, match="line"):
        addresses.stray_place_of("output~7")


def test_a_workflows_address_holds_nothing_but_its_own_id() -> None:
    ui = TemporalUi(base_url="http://localhost:8233/", namespace="my ns")
    assert ui.workflow("a/../b?c") == "http://localhost:8233/namespaces/my%20ns/workflows/a%2F..%2Fb%3Fc"


def spending(billed: str) -> Spending:
    money = Decimal(billed)
    return Spending(
        batches=1, entries=1, unpriced=0, input_tokens=1, output_tokens=1, billed=money, list_price=2 * money
    )


def test_a_chart_has_a_column_for_every_day_and_the_highest_reaches_the_top() -> None:
    days = {date(2026, 11, 20): spending("1"), date(2026, 11, 22): spending("4")}
    columns = per_day(days, first=date(2026, 11, 19), last=date(2026, 11, 22))
    assert [(column.billed, column.list_price) for column in columns] == [(0, 0), (12.5, 25), (0, 0), (50, 100)]


def test_a_chart_of_nothing_is_flat() -> None:
    (column,) = per_day({}, first=date(2026, 11, 22), last=date(2026, 11, 22))
    assert (column.billed, column.list_price) == (0, 0)


def test_the_parts_of_a_bar_follow_each_other() -> None:
    parts = list(stretches({Outcome.MISSING: 1, Outcome.SUCCEEDED: 3, Outcome.ERRORED: 0}))
    assert [(part.outcome, part.start, part.width) for part in parts] == [("succeeded", 0, 75), ("missing", 75, 25)]


def test_what_is_missing_of_a_bars_total_stays_empty() -> None:
    parts = list(stretches({Outcome.SUCCEEDED: 3, Outcome.ERRORED: 1}, 8))
    assert [(part.start, part.width) for part in parts] == [(0, 37.5), (37.5, 12.5)]
