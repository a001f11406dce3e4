"""What the steps of a batch stand on: the database, and whoever wants to hear of trouble."""

import logging
from collections.abc import Sequence
from uuid import UUID

from overnight.errors import (
    AmbiguousProviderError,
    ConfigurationError,
    HandlerFailedError,
    OvernightError,
    PermanentProviderError,
    ProviderError,
    TransientProviderError,
)
from overnight.handling.failures import full, public
from overnight.notices import LoggingNotifier, Notice, NoticeKind, Notifier, Notifiers
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.texts import storable

logger = logging.getLogger(__name__)


class Services:
    """Made once per worker process."""

    def __init__(self, settings: Settings, store: Store, notifiers: Sequence[Notifier] = ()) -> None:
        self.settings, self.store = settings, store
        self.notifiers = Notifiers([LoggingNotifier(), *notifiers])

    async def failed(self, batch_id: UUID, error: Exception) -> None:
        """A step failed: keep its whole text where it may be kept, and say so if it is news."""
        text = public(error)
        if text != str(error) or isinstance(error, HandlerFailedError):
            # The stack trace is for development: its last line quotes what the error quotes.
            trace = (error.__cause__ or error) if self.settings.log_error_texts else None
            logger.error("batch %s: %s", batch_id, text, exc_info=trace)
            await self.store.batches.record_error(batch_id, storable(full(error)[:4000]))
        await self.in_trouble(batch_id, _code(error), text, _kind(error))

    async def in_trouble(self, batch_id: UUID, code: str, text: str, kind: NoticeKind) -> None:
        """Note what keeps a batch from going on, and say so if it is news."""
        if await self.store.batches.note_trouble(batch_id, code, urgent=kind is NoticeKind.ATTENTION):
            await self.notifiers.notify(Notice(kind=kind, batch_id=batch_id, code=code, text=text))

    async def succeeded(self, batch_id: UUID) -> None:
        """A step succeeded: if steps failed before, that is over."""
        trouble = await self.store.batches.clear_trouble(batch_id)
        if trouble is not None:
            code, since = trouble
            text = "It works again."
            await self.notifiers.notify(
                Notice(kind=NoticeKind.RECOVERED, batch_id=batch_id, code=code, text=text, since=since)
            )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.store.aclose()


def _code(error: Exception) -> str:
    """What makes two failures the same trouble."""
    if isinstance(error, ProviderError):
        return error.code or (f"http_{error.status}" if error.status else "no_answer")
    return type(error).__name__


def _kind(error: Exception) -> NoticeKind:
    match error:
        case TransientProviderError() | AmbiguousProviderError():
            return NoticeKind.WAITING
        case PermanentProviderError() | ConfigurationError() | HandlerFailedError():
            return NoticeKind.ATTENTION
        case OvernightError():
            return NoticeKind.WAITING
        case _:
            return NoticeKind.ATTENTION
