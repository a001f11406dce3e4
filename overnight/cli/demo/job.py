"""The batches of one run: filled and submitted, or found again."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console

from overnight.cli.demo.parts import Part, Scope
from overnight.cli.demo.reviews import JudgeReview, StoreVerdicts
from overnight.cli.demo.snippets import Snippet, sample
from overnight.cli.estimating import rounded_up
from overnight.client import BatchHandle, Overnight
from overnight.errors import BatchClosedError, ConfigurationError, TemporalError, UsageError
from overnight.estimates import Estimate


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one run does.

    Attributes:
        snippets: all there are, by custom id.
        samples: for each part of the scope, the snippets of its batch.
    """

    scope: Scope
    snippets: Mapping[str, Snippet]
    samples: Sequence[Sequence[Snippet]]

    @property
    def size(self) -> int:
        """Entries altogether."""
        return sum(map(len, self.samples))


def plan_work(scope: Scope, snippets: Sequence[Snippet], entries: int) -> Work:
    """So many snippets for each part.

    Raises:
        ConfigurationError: there are not that many.
    """
    most = len(snippets) // len(scope.parts)
    if entries > most:
        raise ConfigurationError(f"There are {len(snippets)} snippets: --entries can be {most} at most.")
    return Work(
        scope=scope,
        snippets={snippet.custom_id: snippet for snippet in snippets},
        samples=sample(snippets, parts=len(scope.parts), size=entries),
    )


async def resume_or_submit(console: Console, overnight: Overnight, work: Work) -> list[BatchHandle]:
    """The batches to wait for. What was paid for at a real provider, and not fetched yet, is not paid for again."""
    unfinished = [batch for batch in await overnight.batches() if batch.sealed_at and not batch.handler_dispatched_at]
    if unfinished:
        console.print("A batch of an earlier run is not over yet. Going on with it; nothing new is submitted.\n")
        return [await _resume(overnight.batch(batch.id)) for batch in unfinished]
    return [
        await _submit(console, overnight, work.scope, part, snippets)
        for part, snippets in zip(work.scope.parts, work.samples, strict=True)
    ]


async def _resume(handle: BatchHandle) -> BatchHandle:
    with suppress(BatchClosedError):  # its workflow runs, unless that run was ended between the two steps of a submit
        await handle.submit()
    with suppress(TemporalError, UsageError):  # it is over by now
        await handle.poll_now()
    return handle


async def _submit(
    console: Console, overnight: Overnight, scope: Scope, part: Part, snippets: Sequence[Snippet]
) -> BatchHandle:
    handle = await overnight.create_batch(
        provider=part.provider,
        model=part.model,
        endpoint=part.endpoint,
        handler=StoreVerdicts,
        metadata={"source": "overnight demo"},
        poll_waits=scope.poll_waits,
    )
    tasks = (JudgeReview(snippet=snippet.custom_id, text=snippet.text) for snippet in snippets)
    await handle.add_all(tasks, custom_id=lambda task: task.snippet)
    if not scope.simulated:
        _tell_price(console, part, await handle.estimate())
    await handle.submit()
    return handle


def price_of(found: Estimate) -> str:
    """What it costs, as far as it is known: the first run has no earlier answers to go by."""
    at_most = f"{rounded_up(found.cost_at_most)} at most"
    return at_most if found.cost.billed is None else f"about {rounded_up(found.cost)}, {at_most}"


def _tell_price(console: Console, part: Part, found: Estimate) -> None:
    console.print(
        f"Submitting {found.entries} entries to {part.provider}. At its batch prices this costs {price_of(found)}."
    )
    console.print("Ctrl-C stops this machine, not the batch; the same command again picks it up.\n")
