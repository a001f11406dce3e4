"""To cancel what is over, or is being canceled already, is no error: its state is the answer."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from overnight.errors import ProviderError
from overnight.providers.base import ProviderReport

OVER_OR_BEING_CANCELED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})


async def cancel_or_look(
    cancel: Awaitable[ProviderReport], fetch: Callable[[], Awaitable[ProviderReport]], being_canceled: str
) -> ProviderReport:
    """The answer to a cancel, or what came before it.

    Args:
        cancel: the call that cancels.
        fetch: looks at the batch.
        being_canceled: the provider's status word for a batch whose cancel is under way.

    Raises:
        ProviderError: refused, and the batch is neither over nor being canceled.
    """
    try:
        return await cancel
    except ProviderError as error:
        if error.status not in OVER_OR_BEING_CANCELED:
            raise
        report = await fetch()
        if report.status.is_terminal or report.status_word == being_canceled:
            return report
        raise
