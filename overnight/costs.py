"""Usage to money, in exact decimals.

Prices come from the `genai-prices` table that is installed; nothing is fetched. Where the table has a batch price
for a model, that is used, else the provider's discount on its standard price. A deployment's own prices
(`overnight.prices`) go before both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from operator import mul
from types import MappingProxyType
from typing import NamedTuple

import genai_prices
from genai_prices.types import ModelPrice, TieredPrices

from overnight.batches import Cost, Usage
from overnight.prices import PriceOverride, PriceOverrides

# Both providers sell batches at half price (providers' price pages, as of November 2026).
_DISCOUNT: Mapping[str, Decimal] = {"openai": Decimal("0.5"), "anthropic": Decimal("0.5")}
_MILLION = Decimal(1_000_000)
UNKNOWN = Cost(billed=None, list_price=None)
_NOTHING = genai_prices.Usage(input_tokens=0, output_tokens=0)
_NO_OVERRIDES: PriceOverrides = MappingProxyType({})

# Decimals of 28 digits hold a price times so many tokens to the last digit. No request has as many.
_COUNTABLE = 10**12


def _unknown(_: Usage) -> Cost:
    return UNKNOWN


class _Rates(NamedTuple):
    """US dollars for one token of each kind; None where that is not known."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None
    cache_write: Decimal | None
    cache_write_1h: Decimal | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tier:
    """The rates of requests with a prompt of more than `above` tokens."""

    above: int
    billed: _Rates
    list_price: _Rates

    def cost_of(self, usage: Usage) -> Cost:
        """What so many tokens cost, of one request of this tier or of many."""
        return Cost(billed=_charge(usage, self.billed), list_price=_charge(usage, self.list_price))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tariff:
    """What one model costs on one day: worked out once, so that a line costs a few multiplications.

    Attributes:
        tiers: those of the longest prompts first; empty where the prices are not linear in the tokens.
        otherwise: the price table's own calculation, for usages that the rates are not good for.
        is_known: whether anybody knows what the model costs.
        version: which price table this is from.
    """

    tiers: tuple[Tier, ...] = ()
    otherwise: Callable[[Usage], Cost] = _unknown
    is_known: bool = True
    version: str

    def cost_of(self, usage: Usage) -> Cost:
        """What so many tokens cost in one request."""
        tier = self.tier_of(usage.input_tokens) if _adds_up(usage) else None
        return self.otherwise(usage) if tier is None else tier.cost_of(usage)

    def tier_of(self, prompt: int) -> Tier | None:
        """The rates of a request with so many tokens in its prompt; None where there are no rates."""
        for tier in self.tiers:
            if prompt > tier.above:
                return tier
        return None


_WHOLE = Decimal(10) ** 12
_ROOM = 53


@dataclass(frozen=True, kw_only=True, slots=True)
class _WholeTier:
    above: int
    billed: tuple[int, ...]
    list_price: tuple[int, ...]
    knows_caches: bool


class WholeCosts:
    """A tariff in whole numbers of 10^-12 dollars, for those who price a hundred thousand usages: the interpreter is
    several times as fast with them as with decimals, and they are as exact.

    Attributes:
        places: digits behind the point that hold every amount.
    """

    def __init__(self, tariff: Tariff) -> None:
        tiers = [_whole_tier(tier) for tier in tariff.tiers]
        self._tiers = [tier for tier in tiers if tier is not None] if None not in tiers else []
        rates = [rate for tier in tariff.tiers for rate in (*tier.billed, *tier.list_price) if rate is not None]
        self.places = max((_places(rate) for rate in rates), default=0)

    def of(self, spent: int, read: int, written: int, hourly: int, made: int) -> tuple[int, int] | None:
        """What `Tariff.cost_of` says of a usage, as billed and as listed, both below 2^53; None where only that method
        can tell. The counts are those of `Usage`, none of them negative.
        """
        for tier in self._tiers:
            if spent > tier.above:
                break
        else:
            return None
        if not (read or written or hourly):
            (into, out, *_), (listed_into, listed_out, *_) = tier.billed, tier.list_price
            billed, listed = spent * into + made * out, spent * listed_into + made * listed_out
        elif tier.knows_caches and hourly <= written and read + written <= spent:
            kinds = spent - read - written, made, read, written - hourly, hourly
            billed, listed = sum(map(mul, kinds, tier.billed)), sum(map(mul, kinds, tier.list_price))
        else:
            return None
        return None if (billed | listed) >> _ROOM else (billed, listed)


def _whole_tier(tier: Tier) -> _WholeTier | None:
    """The tier in whole numbers; None where those do not hold its rates."""
    rates = (*tier.billed, *tier.list_price)
    whole = [Decimal(0) if rate is None else rate * _WHOLE for rate in rates]
    if any(rate != int(rate) or rate < 0 for rate in whole):
        return None
    billed, listed = whole[: len(tier.billed)], whole[len(tier.billed) :]
    return _WholeTier(
        above=tier.above,
        billed=tuple(map(int, billed)),
        list_price=tuple(map(int, listed)),
        knows_caches=None not in rates,
    )


def _places(rate: Decimal) -> int:
    exponent = rate.as_tuple().exponent
    assert isinstance(exponent, int)
    return min(max(-exponent, 0), 12)


def _adds_up(usage: Usage) -> bool:
    written, read = usage.cache_write_tokens, usage.cache_read_tokens
    return (
        0 <= usage.cache_write_1h_tokens <= written
        and read >= 0
        and read + written <= usage.input_tokens <= _COUNTABLE
        and 0 <= usage.output_tokens <= _COUNTABLE
    )


def _charge(usage: Usage, rates: _Rates) -> Decimal | None:
    written, read = usage.cache_write_tokens, usage.cache_read_tokens
    total = (usage.input_tokens - read - written) * rates.input + usage.output_tokens * rates.output
    if not read and not written:
        return total
    hourly = usage.cache_write_1h_tokens
    for tokens, rate in (
        (read, rates.cache_read),
        (written - hourly, rates.cache_write),
        (hourly, rates.cache_write_1h),
    ):
        if tokens:
            if rate is None:
                return None
            total += tokens * rate
    return total


def price_version() -> str:
    """Which price table is installed."""
    return f"genai-prices {version('genai-prices')}"


def _model_price(provider: str, model: str, at: datetime, context: dict[str, str] | None) -> ModelPrice | None:
    try:
        price = genai_prices.calc_price(
            _NOTHING, model, provider_id=provider, genai_request_timestamp=at, price_context=context
        )
    except LookupError:
        return None
    return price.model_price


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """A model's entry in the price table: batch price, standard price, and what the former is to be multiplied with."""

    batch: ModelPrice
    standard: ModelPrice
    factor: Decimal

    def cost_of(self, usage: Usage) -> Cost:
        """By the table's own calculation; a usage that contradicts itself has no cost that is known."""
        counted = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_tokens=usage.output_tokens,
        )
        return Cost(
            billed=self.batch.calc_price(counted)["total_price"] * self.factor,
            list_price=self.standard.calc_price(counted)["total_price"],
        )

    def cost_if_sensible(self, usage: Usage) -> Cost:
        try:
            return self.cost_of(usage)
        except ValueError:
            return UNKNOWN

    def tiers(self) -> tuple[Tier, ...]:
        """The rates, asked of the table's own calculation; none where they do not foretell what it says."""
        prices = [*vars(self.batch).values(), *vars(self.standard).values()]
        starts = {tier.start for price in prices if isinstance(price, TieredPrices) for tier in price.tiers}
        try:
            tiers = tuple(self._tier(above) for above in sorted({-1, *starts}, reverse=True))
            return tiers if all(map(self._is_linear, tiers)) else ()
        except ValueError:
            return ()

    def _tier(self, above: int) -> Tier:
        prompt = max(above + 1, 1)
        base = self.cost_of(Usage(input_tokens=prompt))
        costs = [
            base,
            self.cost_of(Usage(input_tokens=prompt, output_tokens=prompt)),
            self.cost_of(Usage(input_tokens=prompt, cache_read_tokens=prompt)),
            self.cost_of(Usage(input_tokens=prompt, cache_write_tokens=prompt)),
            self.cost_of(Usage(input_tokens=prompt, cache_write_tokens=prompt, cache_write_1h_tokens=prompt)),
        ]
        billed = _rates([cost.billed or Decimal(0) for cost in costs], prompt)
        return Tier(
            above=above, billed=billed, list_price=_rates([cost.list_price or Decimal(0) for cost in costs], prompt)
        )

    def _is_linear(self, tier: Tier) -> bool:
        """Prices of another kind (per request, say) would show in a usage that mixes all kinds of tokens."""
        prompt = max(tier.above + 1, 1)
        usage = Usage(
            input_tokens=prompt + 30,
            cache_read_tokens=3,
            cache_write_tokens=5,
            cache_write_1h_tokens=2,
            output_tokens=prompt + 7,
        )
        return self.cost_of(usage) == tier.cost_of(usage)


def _rates(costs: list[Decimal], prompt: int) -> _Rates:
    """From what a prompt costs plain, together with as long an answer, read from the cache, and written to it."""
    plain, answered, read, written, written_1h = costs
    return _Rates(
        input=plain / prompt,
        output=(answered - plain) / prompt,
        cache_read=read / prompt,
        cache_write=written / prompt,
        cache_write_1h=written_1h / prompt,
    )


def _listed(provider: str, model: str, day: date) -> _Listed | None:
    at = datetime.combine(day, time(), UTC)
    standard = _model_price(provider, model, at, None)
    if standard is None:
        return None
    batch = _model_price(provider, model, at, {"processing": "batch"})
    if batch is None or batch == standard:
        return _Listed(batch=standard, standard=standard, factor=_DISCOUNT.get(provider, Decimal(1)))
    return _Listed(batch=batch, standard=standard, factor=Decimal(1))


@lru_cache(maxsize=1024)
def _table_tariff(provider: str, model: str, day: date) -> Tariff:
    listed = _listed(provider, model, day)
    if listed is None:
        return Tariff(is_known=False, version=price_version())
    return Tariff(tiers=listed.tiers(), otherwise=listed.cost_if_sensible, version=price_version())


@lru_cache(maxsize=1024)
def _own_tariff(provider: str, price: PriceOverride) -> Tariff:
    def rates(factor: Decimal) -> _Rates:
        kinds = (price.input, price.output, price.cached, price.cache_write, price.cache_write_1h)
        return _Rates(*(kind if kind is None else kind * factor / _MILLION for kind in kinds))  # type: ignore[arg-type]

    factor = _DISCOUNT.get(provider, Decimal(1)) if price.batch_factor is None else price.batch_factor
    tier = Tier(above=-1, billed=rates(factor), list_price=rates(Decimal(1)))
    return Tariff(tiers=(tier,), version=price.version)


def tariff(
    provider: str, model: str, *, at: datetime | None = None, overrides: PriceOverrides = _NO_OVERRIDES
) -> Tariff:
    """What a model costs on the day of `at`, today by default."""
    own = overrides.get(provider, {}).get(model)
    if own is not None:
        return _own_tariff(provider, own)
    return _table_tariff(provider, model, (at or datetime.now(UTC)).astimezone(UTC).date())


def knows_model(provider: str, model: str, *, overrides: PriceOverrides = _NO_OVERRIDES) -> bool:
    """Whether there is a price for this model."""
    return tariff(provider, model, overrides=overrides).is_known


def cost_of(
    usage: Usage,
    *,
    provider: str,
    model: str,
    at: datetime | None = None,
    overrides: PriceOverrides = _NO_OVERRIDES,
) -> Cost:
    """What so many tokens cost in one request; prices may depend on the request's length and on the day.

    Unknown models cost None, never zero. So does a usage that contradicts itself (more tokens from the cache than there
    are in the prompt): what it cost is not known either, and it must not keep the rest of its batch from being read.
    For many usages of one model and day, ask `tariff` once.
    """
    return tariff(provider, model, at=at, overrides=overrides).cost_of(usage)
