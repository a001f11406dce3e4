from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conformance.bench import Bench, Simulate, open_bench


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """Starts simulators with a configuration of the test's own."""
    with ExitStack() as stack:

        def start(**config: Any) -> Bench:
            return open_bench(stack, **config)

        yield start


@pytest.fixture(scope="session")
def shared_bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield open_bench(stack)


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """A simulator as it comes, with nothing in it, and with stages that only the test's clock ends."""
    shared_bench.control("POST", "reset")
    return shared_bench
