from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.batches import Cost, Usage
from overnight.costs import cost_of, knows_model, price_version

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


@given(usages, usages)
def test_usages_add_up_field_by_field(one: Usage, other: Usage) -> None:
    total = one + other
    for field in Usage.__dataclass_fields__:
        assert getattr(total, field) == getattr(one, field) + getattr(other, field)
