"""Batches at every step of their lives at one moment, for whatever shall happen to all of them."""

import asyncio

from tests.chaos.harness import System

# Those at the end cannot be held for more than moments, so they come last.
STEPS = [
    ("openai", "upload_entries/upload.after"),
    ("openai", "create_provider_batch/record_intent.after"),
    ("openai", "create_provider_batch/create.after"),
    ("anthropic", "create_provider_batch/newest.after"),
    ("anthropic", "create_provider_batch/create.after"),
    ("openai", "ingest_results/write.after"),
    ("anthropic", "ingest_results/finish.before"),
    ("openai", "hydrate_results/write.after"),
    ("anthropic", "dispatch_handler/_stamp.before"),
    ("anthropic", "dispatch_handler/commit.after"),
    ("openai", "fetch_status/record_report.before"),
    ("anthropic", "fetch_status/read.after"),
    ("openai", "open_batch/claim.after"),
]


async def at_every_step(system: System) -> None:
    """A batch at each step, held there by a worker that lives."""
    held = [await system.submit(provider, hold=place) for provider, place in STEPS[:-3]]
    await asyncio.gather(*(system.held(batch) for batch in held))
    held = [await system.submit(provider, hold=place) for provider, place in STEPS[-3:]]
    await asyncio.gather(*(system.held(batch) for batch in held))


def let_go(system: System) -> None:
    for hold in system.holds.values():
        hold.unlink(missing_ok=True)
