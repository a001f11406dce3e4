"""What calls of a provider's own tools add to a cost: what is known, or nothing that could be added up."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from overnight.batches import Cost
from overnight.fees import read_fees, version_with, with_fees

COST = Cost(billed=Decimal("0.5"), list_price=Decimal(1))
UNKNOWN = Cost(billed=None, list_price=None)
FEES = {"web_search": Decimal(10), "code_execution": Decimal(0)}


def test_calls_with_a_fee_are_paid_by_the_thousand_and_have_no_discount() -> None:
    assert with_fees(COST, {"web_search": 3}, FEES) == Cost(billed=Decimal("0.53"), list_price=Decimal("1.03"))
    assert with_fees(COST, {"web_search": 1, "code_execution": 7}, FEES).billed == Decimal("0.51")
    assert with_fees(COST, {}, {}) is COST


def test_one_call_without_a_fee_makes_the_whole_cost_unknown() -> None:
    assert with_fees(COST, {"web_search": 3}, {}) == UNKNOWN
    assert with_fees(COST, {"web_search": 3, "file_search": 1}, FEES) == UNKNOWN
    assert with_fees(UNKNOWN, {"web_search": 3}, FEES) == UNKNOWN


def test_fees_are_read_as_exact_amounts_from_a_text_or_a_file(tmp_path: Path) -> None:
    text = '{"anthropic": {"web_search": 10.1}}'
    file = tmp_path / "fees.json"
    file.write_text(text)

    assert read_fees(text) == read_fees(str(file)) == {"anthropic": {"web_search": Decimal("10.1")}}


@pytest.mark.parametrize(
    "wrong", ['{"anthropic": []}', '{"anthropic": 10}', '{"openai": {"web_search": -1}}', '{"a": {"b": "x"}}']
)
def test_fees_of_another_shape_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        read_fees(wrong)
    with pytest.raises(ValueError, match="cannot be read"):
        read_fees("/nowhere/fees.json")


def test_the_version_of_the_prices_says_which_fees_are_among_them() -> None:
    assert version_with("table 1", {}) == "table 1"
    versions = {
        version_with("table 1", read_fees(json.dumps({"a": fees}))["a"]) for fees in ({"x": 1}, {"x": 2}, {"x": 1})
    }
    assert len(versions) == 2
    assert all(version.startswith("table 1, OVERNIGHT_TOOL_FEES ") for version in versions)
