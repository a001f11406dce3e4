"""What providers charge for calls of their own tools, besides tokens: a web search, say.

No price table has these fees. A deployment that knows what it pays says so in OVERNIGHT_TOOL_FEES; where it does not,
the cost of an answer with such calls is unknown, and not that of its tokens alone (docs/decisions/0038).
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType

from pydantic import TypeAdapter

from overnight.batches import Cost
from overnight.costs import UNKNOWN
from overnight.prices import Dollars, parsed

PER_CALLS = 1_000

Fees = Mapping[str, Decimal]
"""US dollars per thousand calls, as providers list them; by the tool's name, as responses have it."""

ToolFees = Mapping[str, Fees]
"""By provider."""

NO_FEES: Fees = MappingProxyType({})
_FEES: TypeAdapter[ToolFees] = TypeAdapter(dict[str, dict[str, Dollars]])


def read_fees(value: object) -> ToolFees:
    """Fees from a JSON text, or from the path of a file that holds one.

    Raises:
        ValueError: the file cannot be read, it is no JSON, or not of this shape; amounts are no secrets and are shown.
    """
    return _FEES.validate_python(parsed(value) if isinstance(value, str) else value)


def with_fees(cost: Cost, calls: Mapping[str, int], fees: Fees) -> Cost:
    """What an answer cost together with the calls that it took; unknown where one of them has no fee here.

    A fee is the same at the batch rate and at list price: batches have no discount on it.
    """
    if not calls:
        return cost
    if cost.billed is None or cost.list_price is None or not calls.keys() <= fees.keys():
        return UNKNOWN
    fee = sum((number * fees[tool] for tool, number in calls.items()), Decimal(0)) / PER_CALLS
    return Cost(billed=cost.billed + fee, list_price=cost.list_price + fee)


def version_with(price_version: str, fees: Fees) -> str:
    """Which prices these are, where fees of one's own are among them: the same fees have the same version."""
    if not fees:
        return price_version
    text = json.dumps({tool: str(fee) for tool, fee in sorted(fees.items())})
    return f"{price_version}, OVERNIGHT_TOOL_FEES {sha256(text.encode()).hexdigest()[:12]}"
