"""Our errors to Temporal's, once, for every activity.

A failure travels into workflow history and from there to logs and screens, so its text must hold no prompt, no
response and no key. Our own errors are written that way. Anything else (the user's code, a driver) may quote what it
stumbled over: of those only the kind and the place travel, and the full text is kept in Postgres.
"""

import contextlib
import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from overnight import contracts
from overnight.contracts import Trouble
from overnight.errors import (
    AmbiguousProviderError,
    ConfigurationError,
    HandlerFailedError,
    OvernightError,
    PermanentProviderError,
    TransientProviderError,
    UsageError,
)
from overnight.log_events import LogEvent
from overnight.logs import concerning
from overnight.metrics import STEP_FAILURES, count
from overnight.settings import Settings
from overnight.storage.submissions import SubmissionBusyError

if TYPE_CHECKING:
    from overnight.handling.services import Services, Subject

logger = logging.getLogger(__name__)

# Somebody has to mend it: asking more often helps nobody, asking less often delays the healing.
_BEFORE_MENDED = timedelta(minutes=5)

_TELLING = timedelta(seconds=5)


def _pause(error: Exception, settings: Settings) -> timedelta | None:
    """How long to wait before the next attempt, where that is not the retry policy's to say."""
    match error:
        case TransientProviderError():
            return error.retry_after
        case AmbiguousProviderError():
            # A search before the provider's lists have settled proves nothing.
            return max(settings.list_settles / 4, error.retry_after or timedelta(0))
        case SubmissionBusyError():
            return settings.list_settles / 4
        case PermanentProviderError() | ConfigurationError():
            return min(_BEFORE_MENDED, settings.poll_waits[-1])
        case _:
            return None


def where(error: BaseException) -> str:
    """Kind and place of a foreign error, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{place}"


def public(error: Exception) -> str:
    """The text as far as it may leave the database."""
    return error.public if isinstance(error, OvernightError) else f"{where(error)}; its text is in last_error"


def full(error: Exception) -> str:
    """The whole text, for the database alone."""
    cause = error.__cause__ if isinstance(error, HandlerFailedError) else None
    return f"{type(cause or error).__name__}: {cause or error}"


def application_error(
    error: Exception, settings: Settings, *, final: type[Exception] | tuple[type[Exception], ...] = ()
) -> ApplicationError:
    """What the workflow and the UI get to see. Errors of the `final` types are not tried again."""
    if isinstance(error, ApplicationError):
        return error
    return ApplicationError(
        public(error),
        type=type(error).__name__,
        non_retryable=isinstance(error, final),
        next_retry_delay=_pause(error, settings),
        # Temporal would log a stack trace for every failed poll; `step` says it in a line.
        category=ApplicationErrorCategory.BENIGN,
    )


class _OfServices(Protocol):
    """What activities are methods of."""

    @property
    def _services(self) -> "Services": ...


S = TypeVar("S", bound=_OfServices)
B = TypeVar("B")
R = TypeVar("R")


def translated(run: Callable[[S, B], Awaitable[R]]) -> Callable[[S, B], Awaitable[R]]:
    """Make an activity of what puts no batch in trouble when it fails: there is no batch yet, or trouble is what it
    tells of. What the caller must mend is not tried again.
    """

    @functools.wraps(run)
    async def translating(self: S, request: B) -> R:
        with _named(request):
            try:
                return await run(self, request)
            except Exception as error:  # noqa: BLE001 - as in `step`
                failure = application_error(error, self._services.settings, final=UsageError)
                what = activity.info().activity_type
                logger.warning("%s failed: %s", what, failure.message, extra={"event": LogEvent.STEP_FAILED})
                raise failure from None

    return translating


def _named(request: object) -> AbstractContextManager[None]:
    """What is logged concerns the batch or campaign that the request names, if it names one; it may not be there."""
    named = getattr(request, "start", request)
    return concerning(getattr(named, "batch_id", None), campaign_id=getattr(named, "campaign_id", None))


async def _tell_workflow(trouble: Trouble | None) -> None:
    """Temporal retries a step without a word to its workflow, whose details and search attributes then say nothing of
    it. Best effort: the database's note is the one that counts.
    """
    if trouble is not None:
        workflow = activity.client().get_workflow_handle(activity.info().workflow_id or "")
        await workflow.signal(contracts.TROUBLE, trouble, rpc_timeout=_TELLING)


async def _failed(services: "Services", subject: "Subject", error: Exception) -> ApplicationError:
    """Note and tell of it, as far as that can be done, and give what Temporal is to see."""
    with contextlib.suppress(Exception):  # the database may be what is ill
        await _tell_workflow(await services.failed(subject, error))
    failure = application_error(error, services.settings)
    count(STEP_FAILURES, error=failure.type or "unknown")
    what = activity.info().activity_type
    logger.warning("%s: %s failed: %s", subject, what, failure.message, extra={"event": LogEvent.STEP_FAILED})
    return failure


def step(run: Callable[[S, B], Awaitable[R]]) -> Callable[[S, B], Awaitable[R]]:
    """Make an activity of a step of one batch or campaign: our errors become Temporal's, and trouble is told once per
    streak.
    """

    @functools.wraps(run)
    async def stepping(self: S, request: B) -> R:
        subject = self._services.subject(request)
        with concerning(subject.batch_id, campaign_id=subject.campaign_id):
            try:
                result = await run(self, request)
            except Exception as error:  # noqa: BLE001 - the one place where every failure passes
                # Without `from None` the cause would travel along, text and all.
                raise await _failed(self._services, subject, error) from None
            with contextlib.suppress(Exception):  # what was done is done, even if nobody can be told
                await self._services.succeeded(subject)
            return result

    return stepping
