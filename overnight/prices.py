"""Prices that a deployment sets itself: for models that the price table does not know, and for prices of its own."""

import json
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
"""An amount that a deployment sets."""


class PriceOverride(BaseModel):
    """US dollars per million tokens of one model, without batching.

    A usage with tokens of a kind that has no price here has an unknown cost: what they cost is not guessed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    batch_factor: Annotated[Decimal, Field(ge=0, le=1)] | None = None
    """What a batch costs of that; by default the provider's own discount."""

    @property
    def version(self) -> str:
        """What batches keep that were priced with it: the same prices have the same one on every machine."""
        return f"OVERNIGHT_PRICES {sha256(self.model_dump_json().encode()).hexdigest()[:12]}"


PriceOverrides = Mapping[str, Mapping[str, PriceOverride]]
"""By provider and model."""

_OVERRIDES: TypeAdapter[PriceOverrides] = TypeAdapter(dict[str, dict[str, PriceOverride]])


def read_overrides(value: object) -> PriceOverrides:
    """Overrides from a JSON text, or from the path of a file that holds one.

    Raises:
        ValueError: the file cannot be read, it is no JSON, or not of this shape; amounts are no secrets and are shown.
    """
    return _OVERRIDES.validate_python(parsed(value) if isinstance(value, str) else value)


def parsed(text: str) -> object:
    """The JSON that a setting's text is, or that is in the file it names.

    Raises:
        ValueError: the file cannot be read, or it is no JSON.
    """
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text.strip()).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"the file {text.strip()!r} cannot be read: {error.strerror}") from None
    # As Decimal from the very digits: 0.1 must not become what a binary float makes of it.
    return json.loads(text, parse_float=Decimal)
