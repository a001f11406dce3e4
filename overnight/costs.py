"""Usage to money, in exact decimals.

Prices come from the `genai-prices` table that is installed; nothing is fetched. Where the table has a batch price
for a model, that is used, else the provider's discount on its standard price.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

import genai_prices
from genai_prices.types import ModelPrice

from overnight.batches import Cost, Usage

# Both providers sell batches at half price (providers' price pages, as of November 2026).
_DISCOUNT: Mapping[str, Decimal] = {"openai": Decimal("0.5"), "anthropic": Decimal("0.5")}
_UNKNOWN = Cost(billed=None, list_price=None)
_NOTHING = genai_prices.Usage(input_tokens=0, output_tokens=0)


def price_version() -> str:
    """Which price table costs are computed from."""
    return f"genai-prices {version('genai-prices')}"


def _model_price(provider: str, model: str, at: datetime | None, context: dict[str, str] | None) -> ModelPrice | None:
    try:
        price = genai_prices.calc_price(
            _NOTHING, model, provider_id=provider, genai_request_timestamp=at, price_context=context
        )
    except LookupError:
        return None
    return price.model_price


@lru_cache(maxsize=256)
def _prices(provider: str, model: str, day: datetime | None) -> tuple[ModelPrice, ModelPrice, Decimal] | None:
    """Batch price, standard price, and what the batch price is still to be multiplied with."""
    standard = _model_price(provider, model, day, None)
    if standard is None:
        return None
    batch = _model_price(provider, model, day, {"processing": "batch"})
    if batch is None or batch == standard:
        return standard, standard, _DISCOUNT.get(provider, Decimal(1))
    return batch, standard, Decimal(1)


def knows_model(provider: str, model: str) -> bool:
    """Whether the price table has this model."""
    return _prices(provider, model, None) is not None


def _usage(usage: Usage) -> genai_prices.Usage:
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
    )


def cost_of(usage: Usage, *, provider: str, model: str, at: datetime | None = None) -> Cost:
    """What so many tokens cost in one request; prices may depend on the request's length and on the day.

    Unknown models cost None, never zero. So does a usage that contradicts itself (more tokens from the cache than there
    are in the prompt): what it cost is not known either, and it must not keep the rest of its batch from being read.
    """
    day = at and at.replace(hour=0, minute=0, second=0, microsecond=0)
    prices = _prices(provider, model, day)
    if prices is None:
        return _UNKNOWN
    batch, standard, factor = prices
    try:
        counted = _usage(usage)
        return Cost(
            billed=batch.calc_price(counted)["total_price"] * factor,
            list_price=standard.calc_price(counted)["total_price"],
        )
    except ValueError:
        return _UNKNOWN
