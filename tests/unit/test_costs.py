import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice
from hypothesis import example, given, settings
from hypothesis import strategies as st

from overnight.batches import Cost, Usage
from overnight.costs import Tariff, WholeCosts, _Listed, cost_of, knows_model, price_version, tariff
from overnight.prices import read_overrides

UNKNOWN = Cost(billed=None, list_price=None)
MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


@pytest.mark.parametrize(
    ("provider", "model", "list_price"),
    [
        ("openai", "gpt-4o-mini", "0.75"),
        ("openai", "gpt-4.1-mini", "2.0"),
        ("openai", "gpt-5-mini", "2.25"),
        ("openai", "o3", "10"),
        ("anthropic", "claude-haiku-4-5", "6"),
        ("anthropic", "claude-opus-4-5", "30"),
    ],
)
def test_a_batch_costs_half_of_the_list_price_to_the_last_digit(provider: str, model: str, list_price: str) -> None:
    cost = cost_of(MILLION, provider=provider, model=model)
    assert cost.list_price == Decimal(list_price)
    assert cost.billed == Decimal(list_price) / 2


def test_a_model_without_a_batch_price_in_the_table_gets_the_discount_of_its_provider() -> None:
    cost = cost_of(Usage(input_tokens=1_000_000), provider="openai", model="text-embedding-3-small")
    assert cost == Cost(billed=Decimal("0.01"), list_price=Decimal("0.02"))


def test_tokens_from_the_cache_cost_what_the_table_says_of_them() -> None:
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=400_000)
    cost = cost_of(usage, provider="anthropic", model="claude-haiku-4-5")
    assert cost.list_price == Decimal("0.6") + Decimal("0.04")
    assert cost.billed == (Decimal("0.6") + Decimal("0.04")) / 2


def test_a_batch_price_of_the_table_is_followed_where_it_is_not_simply_half() -> None:
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=1_000_000)
    cost = cost_of(usage, provider="openai", model="gpt-4o-mini")
    assert cost == Cost(billed=Decimal("0.075"), list_price=Decimal("0.075"))


def test_tokens_written_to_the_cache_for_an_hour_cost_more_than_those_for_five_minutes() -> None:
    usage = Usage(input_tokens=1_000_000, cache_write_tokens=500_000, cache_write_1h_tokens=200_000)
    cost = cost_of(usage, provider="anthropic", model="claude-haiku-4-5")
    assert cost.list_price == Decimal("0.5") + Decimal("0.3") * Decimal("1.25") + Decimal("0.2") * 2


def test_long_prompts_have_prices_of_their_own() -> None:
    usage = Usage(input_tokens=300_000, output_tokens=1_000_000)
    cost = cost_of(usage, provider="anthropic", model="claude-sonnet-4-5")
    assert cost.list_price == Decimal("0.3") * 6 + Decimal("22.5")


def test_a_single_token_of_a_cheap_model_is_not_rounded_away() -> None:
    cost = cost_of(Usage(input_tokens=1), provider="openai", model="gpt-5-nano")
    assert cost.list_price == Decimal("0.00000005")
    assert cost.billed == Decimal("0.000000025")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-404"), ("anthropic", "gpt-4o"), ("nobody", "gpt-4o"), ("openai", ""), ("openai", "\x00\ud800")],
)
def test_an_unknown_model_has_an_unknown_cost_and_never_none_at_all(provider: str, model: str) -> None:
    assert cost_of(MILLION, provider=provider, model=model) == UNKNOWN
    assert cost_of(Usage(), provider=provider, model=model) == UNKNOWN
    assert not knows_model(provider, model)


def test_a_known_model_costs_nothing_where_nothing_was_used() -> None:
    assert knows_model("openai", "gpt-4o-mini")
    assert cost_of(Usage(), provider="openai", model="gpt-4o-mini") == Cost(billed=Decimal(0), list_price=Decimal(0))


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, cache_read_tokens=100),
        Usage(input_tokens=10, cache_write_tokens=5, cache_write_1h_tokens=6),
        Usage(input_tokens=10, cache_read_tokens=6, cache_write_tokens=6),
        Usage(input_tokens=-10),
        Usage(output_tokens=-1),
    ],
)
def test_a_usage_that_contradicts_itself_has_an_unknown_cost(usage: Usage) -> None:
    assert cost_of(usage, provider="anthropic", model="claude-haiku-4-5") == UNKNOWN


counts = st.integers(-5, 2**80)
usages = st.builds(Usage, **dict.fromkeys(Usage.__dataclass_fields__, counts))
models = [("openai", "gpt-4o-mini"), ("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-404")]


@given(usages, st.sampled_from(models))
def test_no_usage_however_odd_keeps_a_batch_from_being_read(usage: Usage, model: tuple[str, str]) -> None:
    cost = cost_of(usage, provider=model[0], model=model[1])
    assert (cost.billed is None) == (cost.list_price is None)
    assert cost.billed is None or 0 <= cost.billed <= cost.list_price


@pytest.mark.parametrize("at", [datetime(2030, 1, 1, 13, 5, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), None])
def test_every_day_has_a_price(at: datetime | None) -> None:
    assert cost_of(MILLION, provider="openai", model="gpt-4o-mini", at=at).billed is not None


def test_requests_of_one_day_cost_the_same_at_any_hour() -> None:
    day = datetime(2026, 11, 22, tzinfo=UTC)
    costs = {cost_of(MILLION, provider="openai", model="o3", at=day + timedelta(hours=hour)).billed for hour in (0, 23)}
    assert len(costs) == 1


def test_the_price_table_is_named_with_its_version() -> None:
    assert price_version() == f"genai-prices {version('genai-prices')}"


MODELS = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in ("openai", "anthropic")
    for model in provider.models
]
DAYS = [datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)]
"""Before, between and after the days on which prices of the table change."""


@st.composite
def sensible_usages(draw: st.DrawFn) -> Usage:
    """Prompts on both sides of every length at which the table's prices change, split in any way."""
    edges = (0, 1, 100_000, 200_000, 272_000, 10**9)
    prompt = draw(st.one_of(st.integers(0, 10**9), st.sampled_from(edges), st.sampled_from(edges).map((1).__add__)))
    read = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - read))
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
        output_tokens=draw(st.integers(0, 10**9)),
    )


def by_the_table(usage: Usage, provider: str, model: str, at: datetime, context: dict[str, str] | None) -> Any:
    fields = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
    counted = genai_prices.Usage(**{f"{name}_tokens": getattr(usage, f"{name}_tokens") for name in fields})
    return genai_prices.calc_price(
        counted, model, provider_id=provider, genai_request_timestamp=at, price_context=context
    )


@pytest.mark.parametrize(("provider", "model"), MODELS)
@settings(max_examples=8, deadline=None)
@given(usage=st.one_of(sensible_usages(), usages), at=st.sampled_from(DAYS))
def test_every_model_costs_what_the_price_table_calculates(
    usage: Usage, at: datetime, provider: str, model: str
) -> None:
    try:
        standard = by_the_table(usage, provider, model, at, None)
        batch = by_the_table(usage, provider, model, at, {"processing": "batch"})
    except (LookupError, ValueError):
        expected = UNKNOWN
    else:
        factor = Decimal("0.5") if batch.model_price == standard.model_price else 1
        expected = Cost(billed=batch.total_price * factor, list_price=standard.total_price)
    assert cost_of(usage, provider=provider, model=model, at=at) == expected


def test_prices_that_are_not_linear_in_the_tokens_are_left_to_the_table() -> None:
    per_request = ModelPrice(input_mtok=Decimal(1), requests_kcount=Decimal(2))
    listed = _Listed(batch=per_request, standard=per_request, factor=Decimal(1))
    assert listed.tiers() == ()
    prices = Tariff(tiers=(), otherwise=listed.cost_if_sensible, version="v")
    assert prices.cost_of(Usage(input_tokens=1_000_000)).billed == Decimal("1.002")


OWN = read_overrides(
    """{"openai": {"mine": {"input": 0.1, "output": "0.4", "cached": 0.05}, "o3": {"input": 7, "output": 9,
    "batch_factor": 0.8}}, "anthropic": {"claude-mine": {"input": 1, "output": 5, "cached": 0.1, "cache_write": 1.25,
    "cache_write_1h": 2}}}"""
)


def test_a_price_of_ones_own_is_used_for_a_model_that_the_table_does_not_know() -> None:
    usage = Usage(input_tokens=3, cache_read_tokens=1, output_tokens=1)
    cost = cost_of(usage, provider="openai", model="mine", overrides=OWN)
    assert cost == Cost(billed=Decimal("3.25e-7"), list_price=Decimal("6.5e-7"))
    assert knows_model("openai", "mine", overrides=OWN)
    assert not knows_model("anthropic", "mine", overrides=OWN)


def test_a_price_of_ones_own_goes_before_the_tables_and_has_its_own_batch_factor() -> None:
    cost = cost_of(MILLION, provider="openai", model="o3", overrides=OWN)
    assert cost == Cost(billed=Decimal("12.8"), list_price=Decimal(16))


def test_a_price_of_ones_own_knows_every_kind_of_token() -> None:
    usage = Usage(
        input_tokens=10_000_000, cache_read_tokens=1_000_000, cache_write_tokens=3_000_000, cache_write_1h_tokens=10**6
    )
    cost = cost_of(usage, provider="anthropic", model="claude-mine", overrides=OWN)
    assert cost.list_price == 6 + Decimal("0.1") + Decimal("2.5") + 2
    assert cost.billed == cost.list_price / 2


def test_tokens_of_a_kind_without_a_price_have_an_unknown_cost() -> None:
    usage = Usage(input_tokens=10, cache_write_tokens=1)
    assert cost_of(usage, provider="openai", model="mine", overrides=OWN) == UNKNOWN


def test_batches_keep_which_prices_they_were_priced_with() -> None:
    assert tariff("openai", "gpt-4o", overrides=OWN).version == price_version()
    assert re.fullmatch(r"OVERNIGHT_PRICES [0-9a-f]{12}", tariff("openai", "o3", overrides=OWN).version)
    assert tariff("openai", "mine", overrides=OWN).version != tariff("openai", "o3", overrides=OWN).version


@given(usages, usages)
def test_usages_add_up_field_by_field(one: Usage, other: Usage) -> None:
    total = one + other
    for field in Usage.__dataclass_fields__:
        assert getattr(total, field) == getattr(one, field) + getattr(other, field)


tokens = st.integers(0, 2**31 - 1)


@given(
    st.sampled_from(
        [("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5"), ("openai", "mine"), ("openai", "?")]
    ),
    st.tuples(tokens, st.sampled_from([0, 7]) | tokens, st.just(0) | tokens, st.just(0) | tokens, tokens),
)
@example(("openai", "gpt-4o-mini"), (1_000, 100, 10, 1, 5))
def test_what_a_usage_costs_in_whole_numbers_is_what_it_costs(
    model: tuple[str, str], counts: tuple[int, int, int, int, int]
) -> None:
    spent, read, written, hourly, made = counts
    usage = Usage(
        input_tokens=spent,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hourly,
        output_tokens=made,
    )
    prices = tariff(*model, overrides=OWN)
    costs, cost = WholeCosts(prices), prices.cost_of(usage)
    whole = costs.of(*counts)
    if whole is not None:
        assert tuple(Decimal(amount).scaleb(-12) for amount in whole) == (cost.billed, cost.list_price)
        assert round(Decimal(whole[0]).scaleb(-12), costs.places) == cost.billed
    elif not read and not written and not hourly:
        assert not prices.is_known or max(cost.billed or 0, cost.list_price or 0) > 9_000
