"""Notices as signed webhooks, by the Standard Webhooks convention (extra `webhook`)."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx

from overnight.errors import MissingExtraError
from overnight.notices import Notice

_TIMEOUT = httpx.Timeout(10.0)


def _payload(notice: Notice, at: datetime) -> str:
    kind = "campaign" if notice.campaign_id else "batch"
    data = {
        "kind": notice.kind.value,
        f"{kind}_id": str(notice.campaign_id or notice.batch_id),
        "code": notice.code,
        "text": notice.text,
        "since": notice.since.isoformat() if notice.since else None,
    }
    return json.dumps({"type": f"{kind}.{notice.kind.value}", "timestamp": at.isoformat(), "data": data})


class WebhookNotifier:
    """Posts each notice to one address. Receivers verify it with any Standard Webhooks library.

    Args:
        url: where to; https, or loopback.
        secret: `whsec_` and a base64 key.
        transport: instead of the network, for tests.

    Raises:
        MissingExtraError: `standardwebhooks` is not installed.
    """

    def __init__(self, *, url: str, secret: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        try:
            from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtraError("The webhook notifier", "webhook") from None
        self._url, self._signer, self._transport = url, Webhook(secret), transport

    async def notify(self, notice: Notice) -> None:
        """Post it once.

        Raises:
            httpx.HTTPError: it was not taken.
        """
        message_id, at = f"msg_{uuid4().hex}", datetime.now(UTC)
        body = _payload(notice, at)
        async with httpx.AsyncClient(timeout=_TIMEOUT, transport=self._transport) as client:
            answer = await client.post(self._url, content=body, headers=self._headers(message_id, at, body))
            answer.raise_for_status()

    def _headers(self, message_id: str, at: datetime, body: str) -> dict[str, Any]:
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(message_id, at, body),
        }
