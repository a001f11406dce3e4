"""The steps that run the user's code: hydrate and dispatch, on the user's own task queue if the batch names one."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, TimeoutType
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

with workflow.unsafe.imports_passed_through():
    from overnight import contracts
    from overnight.campaign_contracts import CampaignSummary
    from overnight.contracts import (
        BatchRef,
        BatchSummary,
        DispatchRequest,
        Handled,
        HydrateReport,
        OpenBatch,
        Trouble,
    )
    from workflows import options, texts

Run = workflow.ActivityHandle[Any]
Summary = BatchSummary | CampaignSummary

_RETRY, _SKIP = "retry", "skip"


class Handling:
    """What becomes of one handler, of a batch or of a campaign, and what somebody has ordered about it.

    Nothing here gives up by itself: a handler that cannot run is waited for, visibly, until it can or is skipped.
    """

    def __init__(self, in_trouble: Callable[[Trouble | None], None], *, order: str | None = None) -> None:
        self._in_trouble = in_trouble
        self._order = order
        self._is_patient = False
        """Somebody was told that nobody polls the task queue; from then on it is only waited."""

    @property
    def order(self) -> str | None:
        """What was ordered and not carried out yet, for a history that continues this one."""
        return self._order

    def retry(self) -> None:
        """Run the handler again now; an order to skip it stands."""
        self._order = self._order or _RETRY

    def skip(self) -> None:
        """Do not run the handler, or not again."""
        self._order = _SKIP

    # Hydrate.

    async def hydrate(self, batch: OpenBatch) -> HydrateReport:
        patience = options.PATIENCE if batch.tasks_queue else None
        try:
            return await self._start_hydration(batch, patience)
        except ActivityError as error:
            if not _is_untaken(error):
                raise
            await self._tell_untaken(batch, "hydrate_results")
        report = await self._start_hydration(batch, None)
        self._in_trouble(None)
        return report

    def _start_hydration(self, batch: OpenBatch, patience: timedelta | None) -> workflow.ActivityHandle[HydrateReport]:
        return workflow.start_activity(
            contracts.hydrate_results,
            BatchRef(batch_id=batch.batch_id),
            task_queue=batch.tasks_queue or options.bulk_queue(),
            schedule_to_start_timeout=patience,
            summary=texts.there("turn responses into outputs", batch.tasks_queue),
            **options.FINALIZE,
        )

    # Dispatch.

    async def dispatch(self, handled: Handled, summary: Summary) -> None:
        """Run the handler until it succeeds or is skipped, and have it noted."""
        if handled.is_dispatched:
            return
        while True:
            order, self._order = self._order, None
            self._is_patient = self._is_patient and order != _RETRY
            if order == _SKIP:
                await self._stamp(handled, skip=True)
                return
            if await self._has_run(handled, self._start(handled, summary)):
                break
        if handled.handler_activity:
            await self._stamp(handled, skip=False)

    def _start(self, handled: Handled, summary: Summary) -> Run:
        patience = options.PATIENCE if handled.handler_task_queue and not self._is_patient else None
        if handled.handler_activity:
            return workflow.start_activity(
                handled.handler_activity,
                summary,
                task_queue=handled.handler_task_queue,
                schedule_to_start_timeout=patience,
                summary=f"run {texts.handler(handled)}",
                **options.HANDLER_ACTIVITY,
            )
        return workflow.start_activity(
            contracts.dispatch_handler,
            DispatchRequest(**handled.subject),
            task_queue=handled.handler_task_queue or options.bulk_queue(),
            schedule_to_start_timeout=patience,
            summary=f"run {texts.handler(handled)}",
            **options.DISPATCH,
        )

    async def _stamp(self, handled: Handled, *, skip: bool) -> None:
        """Note that the handler has run, or shall not: that needs no code of the user's, and so no worker of
        theirs, and no turn behind other handlers.
        """
        await workflow.execute_activity(
            contracts.dispatch_handler,
            DispatchRequest(**handled.subject, skip=skip),
            summary=f"skip {texts.handler(handled)}" if skip else "note that the handler has run",
            **options.DISPATCH,
        )

    async def _has_run(self, handled: Handled, run: Run) -> bool:
        """An order overtakes a run between its attempts; an attempt that just succeeds stands."""
        await workflow.wait_condition(lambda: run.done() or self._order is not None)
        if not run.done():
            run.cancel()
        try:
            await run
        except asyncio.CancelledError:
            if self._order is None:
                raise
            return False
        except ActivityError as error:
            if self._order is None:
                await self._bear(handled, error)
            return False
        self._in_trouble(None)
        return True

    async def _bear(self, handled: Handled, error: ActivityError) -> None:
        """Temporal will not try this again: nobody took it, or it said that it would never succeed."""
        if _is_untaken(error):
            self._is_patient = True
            await self._tell_untaken(handled, "the handler")
            return
        await self._tell(handled, "handler_failed", texts.failed_for_good(handled, options.HANDLER_PAUSE))
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._order is not None, timeout=options.HANDLER_PAUSE)

    # Telling.

    async def _tell_untaken(self, handled: Handled, step: str) -> None:
        await self._tell(handled, "no_handler_worker", texts.untaken(step, handled, options.PATIENCE))

    async def _tell(self, handled: Handled, code: str, text: str) -> None:
        trouble = Trouble(**handled.subject, code=code, text=text)
        self._in_trouble(trouble)
        with contextlib.suppress(ActivityError):  # nothing is held up because nobody can be told of it
            await workflow.execute_activity(contracts.report_trouble, trouble, summary=code, **options.TELL)


class TakesOrders:
    """A workflow that ends with a handler, and can be told about it."""

    _step: str
    _handling: Handling

    @workflow.signal(name=contracts.RETRY_HANDLER)
    def retry_handler(self) -> None:
        """Run a handler that keeps failing again now, instead of at the end of its present wait."""
        if self._step == "dispatch":
            self._handling.retry()

    @workflow.signal(name=contracts.SKIP_HANDLER)
    def skip_handler(self) -> None:
        """Do not run the handler, or not again: all is done without it."""
        self._handling.skip()


def _is_untaken(error: ActivityError) -> bool:
    """Whether nobody polled the task queue for as long as that was waited for."""
    return isinstance(error.cause, TemporalTimeoutError) and error.cause.type is TimeoutType.SCHEDULE_TO_START
