"""What the steps of a batch stand on: the database, and whoever wants to hear of trouble."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from overnight.contracts import Trouble
from overnight.errors import (
    AmbiguousProviderError,
    HandlerFailedError,
    OvernightError,
    PermanentProviderError,
    ProviderError,
    SchemaVersionError,
    UsageError,
)
from overnight.handling.failures import full, public
from overnight.log_events import LogEvent
from overnight.notices import LoggingNotifier, Notice, NoticeKind, Notifier, Notifiers
from overnight.settings import Settings
from overnight.storage.store import Store
from overnight.storage.troubles import Troubled
from overnight.temporal_setup import KnownAttributes
from overnight.texts import storable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The batch or campaign that a step is of."""

    store: Troubled
    batch_id: UUID | None = None
    campaign_id: UUID | None = None

    @property
    def id(self) -> UUID:
        """Of its row."""
        found = self.batch_id or self.campaign_id
        assert found is not None
        return found

    def notice(self, *, kind: NoticeKind, code: str, text: str) -> Notice:
        """Something to know about it."""
        return Notice(kind=kind, batch_id=self.batch_id, campaign_id=self.campaign_id, code=code, text=text)

    def trouble(self, *, code: str, text: str, kind: str, needs_attention: bool) -> Trouble:
        """What keeps it from going on."""
        return Trouble(
            batch_id=self.batch_id,
            campaign_id=self.campaign_id,
            code=code,
            text=text,
            kind=kind,
            needs_attention=needs_attention,
        )

    def __str__(self) -> str:
        return f"batch {self.batch_id}" if self.batch_id else f"campaign {self.campaign_id}"


class Services:
    """Made once per worker process."""

    def __init__(self, settings: Settings, store: Store, notifiers: Sequence[Notifier] = ()) -> None:
        self.settings, self.store = settings, store
        self.notifiers = Notifiers([LoggingNotifier(), *notifiers])
        self.attributes = KnownAttributes(settings.search_attributes)

    def subject(self, request: Any) -> Subject:
        """Whose trouble a step's is: the batch's, or the campaign's, that it is asked with."""
        campaign_id = getattr(request, "campaign_id", None)
        if campaign_id is not None:
            return Subject(store=self.store.campaigns, campaign_id=campaign_id)
        return Subject(store=self.store.batches, batch_id=request.batch_id)

    async def failed(self, subject: Subject, error: Exception) -> Trouble | None:
        """A step failed: keep its whole text where it may be kept, and say so if it is news, which is returned then."""
        text = public(error)
        if text != str(error) or isinstance(error, HandlerFailedError):
            # The stack trace is for development: its last line quotes what the error quotes.
            trace = (error.__cause__ or error) if self.settings.log_error_texts else None
            logger.error("%s: %s", subject, text, exc_info=trace, extra={"event": LogEvent.STEP_ERROR_KEPT})
            await subject.store.record_error(subject.id, storable(full(error)[:4000]))
        code = _code(error)
        if not await self.in_trouble(subject, code, text, kind_of(error)):
            return None
        return subject.trouble(code=code, text=text, kind=type(error).__name__, needs_attention=needs_attention(error))

    async def in_trouble(self, subject: Subject, code: str, text: str, kind: NoticeKind) -> bool:
        """Note what keeps a batch or campaign from going on, and say so if it is news; returns whether it is."""
        is_news = await subject.store.note_trouble(subject.id, code, urgent=kind is NoticeKind.ATTENTION)
        if is_news:
            await self.notifiers.notify(subject.notice(kind=kind, code=code, text=text))
        return is_news

    async def succeeded(self, subject: Subject) -> None:
        """A step succeeded: if steps failed before, that is over."""
        trouble = await subject.store.clear_trouble(subject.id)
        if trouble is not None:
            code, since = trouble
            notice = subject.notice(kind=NoticeKind.RECOVERED, code=code, text="It works again.")
            await self.notifiers.notify(replace(notice, since=since))

    async def aclose(self) -> None:
        """Close all connections."""
        await self.store.aclose()


def _code(error: Exception) -> str:
    """What makes two failures the same trouble."""
    if isinstance(error, ProviderError):
        return error.code or (f"http_{error.status}" if error.status else "no_answer")
    return type(error).__name__


def kind_of(error: Exception) -> NoticeKind:
    """Whether a step's failure heals by itself, or somebody must mend something."""
    match error:
        case PermanentProviderError() | HandlerFailedError() | UsageError() | SchemaVersionError():
            return NoticeKind.ATTENTION
        case OvernightError():
            return NoticeKind.WAITING
        case _:
            return NoticeKind.ATTENTION


def needs_attention(error: Exception) -> bool:
    """Whether a list of what needs somebody has it: what must be mended, and a batch that may exist twice, which
    mostly clears up by itself.
    """
    return kind_of(error) is NoticeKind.ATTENTION or isinstance(error, AmbiguousProviderError)
