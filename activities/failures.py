"""Our errors to Temporal's, once, for every activity.

A failure travels into workflow history and from there to logs and screens, so its text must hold no prompt, no
response and no key. Our own errors are written that way. Anything else (the user's code, a driver) may quote what it
stumbled over: of those only the kind and the place travel, and the full text is kept in Postgres.
"""

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from overnight.errors import (
    AmbiguousProviderError,
    ConfigurationError,
    OvernightError,
    PermanentProviderError,
    TransientProviderError,
    UsageError,
)

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# A list can lag behind a create (providers.md says 1 to 2 minutes at most), so a search at once may prove nothing.
_BEFORE_SEARCH = timedelta(seconds=30)
# Somebody has to mend it: asking more often helps nobody, asking less often delays the healing.
_BEFORE_MENDED = timedelta(minutes=5)


def _pause(error: Exception) -> timedelta | None:
    match error:
        case TransientProviderError():
            return error.retry_after
        case AmbiguousProviderError():
            return _BEFORE_SEARCH
        case PermanentProviderError() | ConfigurationError():
            return _BEFORE_MENDED
        case _:
            return None


def where(error: BaseException) -> str:
    """Kind and place of a foreign error, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{place}"


def application_error(
    error: Exception, *, final: type[Exception] | tuple[type[Exception], ...] = ()
) -> ApplicationError:
    """What the workflow and the UI get to see. Errors of the `final` types are not tried again."""
    if isinstance(error, ApplicationError):
        return error
    ours = isinstance(error, OvernightError)
    text = str(error) if ours else f"{where(error)}; its text is in batches.last_error"
    return ApplicationError(
        text,
        type=type(error).__name__,
        non_retryable=isinstance(error, final),
        next_retry_delay=_pause(error),
        # Temporal would log a stack trace for every failed poll; `translated` says it in a line.
        category=ApplicationErrorCategory.BENIGN,
    )


def translated(
    *, final: type[UsageError] | tuple[type[UsageError], ...] = ()
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Let an activity raise our errors as Temporal's."""

    def decorate(run: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(run)
        async def translating(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return await run(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the one place where every failure passes
                failure = application_error(error, final=final)
                logger.warning("%s failed: %s", activity.info().activity_type, failure.message)
                # Without `from None` the cause would travel along, text and all.
                raise failure from None

        return translating

    return decorate
