"""The Temporal namespace, from the command line."""

import asyncio
from dataclasses import asdict

from overnight.attributes import KINDS
from overnight.cli.printing import print_json, say
from overnight.settings import Settings
from overnight.temporal import check_namespace, connect_temporal
from overnight.temporal_setup import register


async def setting_up(*, as_json: bool) -> None:
    """Register what batches are found by in Temporal's lists.

    Raises:
        TemporalError: it does not answer, or we may not.
    """
    client = await connect_temporal(Settings.from_environment())
    try:
        await check_namespace(client)
        registered = await register(client)
    finally:
        await asyncio.sleep(0.05)  # temporalio's threads must be done before the interpreter is (sdk-python issue 300)
    if as_json:
        print_json(asdict(registered))
        return
    for name, what in registered.search_attributes.items():
        say(f"{name} ({KINDS[name]}): {'added' if what == 'added' else 'was there'}")
    say(f"Namespace {registered.namespace} is set up. Batches that begin from now on can be found by them.")
