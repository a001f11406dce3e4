"""Notices as Sentry events (extra `sentry`)."""

from typing import Any

from overnight.errors import MissingExtraError
from overnight.notices import Notice, NoticeKind


class SentryNotifier:
    """Captures what needs attention as an event, grouped by code; calmer notices are left to the logs.

    Args:
        dsn: the project's address.

    Raises:
        MissingExtraError: `sentry-sdk` is not installed.
    """

    def __init__(self, *, dsn: str) -> None:
        try:
            import sentry_sdk  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtraError("The Sentry notifier", "sentry") from None
        # No integrations: they would attach locals and requests, which hold prompts.
        self._client: Any = sentry_sdk.Client(dsn=dsn, default_integrations=False)
        self._scope: Any = sentry_sdk.Scope(client=self._client)

    async def notify(self, notice: Notice) -> None:
        """Hand it to the SDK, which sends it in the background."""
        if notice.kind not in (NoticeKind.ATTENTION, NoticeKind.ORPHAN):
            return
        self._client.capture_event(
            {
                "message": notice.text,
                "level": "warning",
                "fingerprint": ["overnight", notice.kind.value, notice.code],
                "tags": {
                    "campaign_id" if notice.campaign_id else "batch_id": str(notice.campaign_id or notice.batch_id),
                    "code": notice.code,
                    "kind": notice.kind.value,
                },
            },
            scope=self._scope,
        )
