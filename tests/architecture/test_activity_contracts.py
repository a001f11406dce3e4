"""Each stub that a workflow names has exactly one implementation, and Temporal sees the same in both."""

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio import activity

from activities import Services, bulk_activities, short_activities
from overnight import campaign_contracts, contracts
from overnight.handling import handler_activities
from overnight.settings import Settings
from overnight.storage.store import Store
from tests.architecture.sources import modules, parse

STUBS = {**contracts.ACTIVITIES, **campaign_contracts.ACTIVITIES}


def implementations() -> list[Callable[..., Any]]:
    """What a worker registers. Nothing connects: engines and adapters do so at their first use."""
    settings = Settings(database_url=SecretStr("postgresql://nobody@localhost/none"))
    services = Services(settings, Store.from_settings(settings))
    return [*short_activities(services), *bulk_activities(services), *handler_activities(services)]


def definition(function: Callable[..., Any]) -> activity._Definition:
    return activity._Definition.must_from_callable(function)


def defined_in_sources() -> Iterator[str]:
    """The names of all activities that are defined, registered or not."""
    for file in modules("activities", "overnight/handling"):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "activity.defn":
                yield ast.literal_eval(next(keyword.value for keyword in node.keywords if keyword.arg == "name"))


def test_every_stub_has_exactly_one_implementation_and_every_implementation_a_stub() -> None:
    assert Counter(definition(one).name for one in implementations()) == Counter(STUBS.keys())


def test_no_activity_is_defined_that_no_worker_registers() -> None:
    assert sorted(defined_in_sources()) == sorted(STUBS)


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_is_called_in_temporal_what_it_is_called_in_python(name: str) -> None:
    assert definition(STUBS[name]).name == name


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_and_its_implementation_have_the_same_parameters_and_types(name: str) -> None:
    stub = STUBS[name]
    (real,) = [one for one in implementations() if definition(one).name == name]

    assert definition(real).arg_types == definition(stub).arg_types
    assert definition(real).ret_type == definition(stub).ret_type
    assert inspect.signature(real) == inspect.signature(stub)


@pytest.mark.parametrize("name", STUBS)
def test_what_crosses_the_boundary_is_a_value_of_the_contract(name: str) -> None:
    stub = definition(STUBS[name])
    crossing = [*(stub.arg_types or ()), *([stub.ret_type] if stub.ret_type not in {None, type(None)} else [])]

    assert crossing
    assert all(isinstance(shape, type) and issubclass(shape, contracts.Payload) for shape in crossing)
