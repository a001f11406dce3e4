"""Who hears of trouble: once when it begins, once when it is over, not at every poll in between."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from overnight.log_events import LogEvent

logger = logging.getLogger(__name__)


class NoticeKind(StrEnum):
    """What a notice is about."""

    WAITING = "waiting"
    """Something is ill that heals by itself: a rate limit, an overload, a cut connection. It is waited out."""
    ATTENTION = "attention"
    """Something is wrong that somebody must mend: a key, a setting, a handler. It is tried again until then."""
    RECOVERED = "recovered"
    """What an earlier notice was about is over."""
    ORPHAN = "orphan"
    """A provider batch of ours that no batch owns was found, and is being canceled."""
    ABOVE_QUOTA = "above_quota"
    """The provider's queue is full; the batch is submitted again later."""


RESULTS_LOST = "results_lost"
"""The code of a notice about paid results that nobody can read. The batch goes on without them."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing to know about a batch, or about a campaign. The text holds no prompt, no response and no key."""

    kind: NoticeKind
    batch_id: UUID | None = None
    campaign_id: UUID | None = None
    """Instead of a batch's id: what is told is of the campaign as a whole."""
    code: str
    text: str
    since: datetime | None = None

    @property
    def subject(self) -> str:
        """What it is about, for people."""
        return f"campaign {self.campaign_id}" if self.campaign_id else f"batch {self.batch_id}"


_EVENTS: Mapping[NoticeKind, LogEvent] = {
    NoticeKind.WAITING: LogEvent.NOTICE_WAITING,
    NoticeKind.ATTENTION: LogEvent.NOTICE_ATTENTION,
    NoticeKind.RECOVERED: LogEvent.NOTICE_RECOVERED,
    NoticeKind.ORPHAN: LogEvent.NOTICE_ORPHAN,
    NoticeKind.ABOVE_QUOTA: LogEvent.NOTICE_ABOVE_QUOTA,
}


class Notifier(Protocol):
    """Passes notices on. What it raises is logged and changes nothing for the batch."""

    async def notify(self, notice: Notice) -> None:
        """Pass one notice on."""
        ...


class LoggingNotifier:
    """Notices as log lines: the default."""

    async def notify(self, notice: Notice) -> None:
        calm = notice.kind in (NoticeKind.WAITING, NoticeKind.RECOVERED, NoticeKind.ABOVE_QUOTA)
        logger.log(
            logging.INFO if calm else logging.WARNING,
            "%s: %s (%s): %s",
            notice.subject,
            notice.kind.value,
            notice.code,
            notice.text,
            extra={"event": _EVENTS[notice.kind], "batch_id": notice.batch_id, "campaign_id": notice.campaign_id},
        )


class Notifiers:
    """All notifiers of a worker, as one."""

    def __init__(self, notifiers: Sequence[Notifier]) -> None:
        self._notifiers = notifiers

    async def notify(self, notice: Notice) -> None:
        """Tell everybody; one that fails keeps no other from hearing."""
        for notifier in self._notifiers:
            try:
                await notifier.notify(notice)
            except Exception as error:  # noqa: BLE001 - a pager that is down must not stop a batch
                logger.warning(
                    "%s could not be notified: %s",
                    type(notifier).__name__,
                    type(error).__name__,
                    extra={"event": LogEvent.NOTIFIER_FAILED},
                )
