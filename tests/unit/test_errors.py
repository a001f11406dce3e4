"""Every error text names the thing and the way out."""

import inspect
import re
from datetime import timedelta
from uuid import UUID

import pytest

from overnight import errors
from overnight.errors import OvernightError, ProviderError, UsageError

BATCH = UUID("01977a4e-0000-7000-8000-000000000001")

TEXTS = [
    (errors.MissingKeyError("openai", "OPENAI_API_KEY"), ["openai", "Set OPENAI_API_KEY"]),
    (errors.MissingExtraError("The simulator", "embedded"), ["The simulator", "pip install 'overnight[embedded]'"]),
    (errors.UnknownBatchError(BATCH), [str(BATCH), "overnight list"]),
    (errors.UnknownTaskError("task", "Tsk", "Import it."), ["task 'Tsk'", "Import it."]),
    (errors.AmbiguousNameError("task", "T", ["a.T", "b.T"]), ["a.T and b.T", 'name="another-name"']),
    (errors.CustomIdError("a b", "[a-z]+"), ["'a b'", "[a-z]+", "Use letters"]),
    (errors.DuplicateCustomIdError("a-1"), ["'a-1'", "Give each entry its own"]),
    (errors.BatchTooLargeError("openai", "entries", 50_000), ["50,000 entries", "create_campaign"]),
    (errors.EmptyBatchError(BATCH), [str(BATCH), "Add at least one"]),
    (errors.BatchClosedError(BATCH, "submit"), [f"Cannot submit batch {BATCH}", "Create another batch"]),
    (errors.CancelRefusedError(BATCH, "it is over"), [str(BATCH), "it is over"]),
    (errors.CancelRefusedError(BATCH, "it is over", what="campaign"), [f"Campaign {BATCH}", "it is over"]),
    (errors.EmptyBatchError(BATCH, what="campaign"), [f"Campaign {BATCH}", "campaign.add(task)"]),
    (errors.BatchClosedError(BATCH, "submit", what="campaign"), [f"campaign {BATCH}", "another campaign"]),
    (errors.OfCampaignError(BATCH, "c-1"), [str(BATCH), "campaign c-1"]),
    (errors.UnknownCampaignError("c-1"), ["c-1", "overnight campaigns"]),
]


@pytest.mark.parametrize(("error", "parts"), TEXTS, ids=lambda value: type(value).__name__)
def test_a_usage_error_names_the_thing_and_the_way_out(error: UsageError, parts: list[str]) -> None:
    assert isinstance(error, UsageError)
    for part in parts:
        assert part in str(error)


def test_a_provider_error_says_who_what_and_how_and_keeps_the_facts() -> None:
    error = errors.TransientProviderError(
        "openai", "fetch batch", "slow down", status=429, code="rate_limit", retry_after=timedelta(seconds=7)
    )
    assert str(error) == "openai fetch batch: HTTP 429 (rate_limit): slow down"
    assert (error.provider, error.operation, error.status, error.code) == ("openai", "fetch batch", 429, "rate_limit")
    assert error.retry_after == timedelta(seconds=7)


def test_a_provider_that_did_not_answer_is_said_to_have_not() -> None:
    assert str(errors.AmbiguousProviderError("anthropic", "create", "cut")) == "anthropic create: no answer: cut"


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = set(re.findall(r"\w+Error\b", (errors.__doc__ or "").partition("::")[2]))
    classes = {name for name, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, OvernightError)}
    assert drawn == classes


def test_retrying_is_decided_by_three_kinds_of_provider_errors_that_exclude_each_other() -> None:
    kinds = set(ProviderError.__subclasses__())
    assert kinds == {
        errors.TransientProviderError,
        errors.PermanentProviderError,
        errors.AmbiguousProviderError,
    }
