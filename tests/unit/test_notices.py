"""Who hears of trouble, in which form, and that nobody who cannot hear stops a batch."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import sentry_sdk
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from overnight.errors import ConfigurationError
from overnight.notices import LoggingNotifier, Notice, NoticeKind, Notifiers
from overnight.notifiers import notifiers_from
from overnight.notifiers.sentry import SentryNotifier
from overnight.notifiers.webhook import WebhookNotifier
from overnight.settings import Settings

BATCH = UUID("01890000-0000-7000-8000-000000000000")
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SINCE = datetime(2026, 11, 22, 6, tzinfo=UTC)
CALM = (NoticeKind.WAITING, NoticeKind.RECOVERED, NoticeKind.ABOVE_QUOTA)
URGENT = (NoticeKind.ATTENTION, NoticeKind.ORPHAN)


def notice(kind: NoticeKind = NoticeKind.ATTENTION, **changes: Any) -> Notice:
    given = {"kind": kind, "batch_id": BATCH, "code": "invalid_api_key", "text": "The key is wrong."}
    return Notice(**{**given, **changes})


class Heard:
    """A notifier that remembers, and can fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.notices: list[Notice] = []
        self.error = error

    async def notify(self, notice: Notice) -> None:
        self.notices.append(notice)
        if self.error is not None:
            raise self.error


# All of them


async def test_one_that_fails_keeps_no_other_from_hearing_and_its_text_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing, hearing = Heard(RuntimeError("https://hooks.example/secret-path")), Heard()
    await Notifiers([failing, hearing]).notify(notice())
    assert failing.notices == hearing.notices == [notice()]
    assert "Heard could not be notified: RuntimeError" in caplog.text
    assert "secret-path" not in caplog.text


async def test_a_shutdown_is_no_failed_notifier() -> None:
    with pytest.raises(asyncio.CancelledError):
        await Notifiers([Heard(asyncio.CancelledError())]).notify(notice())


# The log


@pytest.mark.parametrize("kind", NoticeKind)
async def test_what_needs_somebody_is_a_warning_and_the_rest_is_not(
    kind: NoticeKind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await LoggingNotifier().notify(notice(kind))
    (record,) = caplog.records
    assert record.levelno == (logging.WARNING if kind in URGENT else logging.INFO)
    assert record.getMessage() == f"batch {BATCH}: {kind.value} (invalid_api_key): The key is wrong."
    assert (record.__dict__["event"], record.__dict__["batch_id"]) == (f"notice.{kind.value}", BATCH)


def test_every_kind_is_either_calm_or_urgent() -> None:
    assert set(CALM) | set(URGENT) == set(NoticeKind)


# Webhooks


class Receiver:
    def __init__(self, status: int = 204) -> None:
        self.requests: list[httpx.Request] = []
        self.status = status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status)

    def notifier(self) -> WebhookNotifier:
        return WebhookNotifier(url="https://hooks.example/in", secret=SECRET, transport=httpx.MockTransport(self))


async def test_a_webhook_is_verified_by_any_library_of_the_standard() -> None:
    receiver = Receiver()
    await receiver.notifier().notify(notice(NoticeKind.RECOVERED, since=SINCE))
    (request,) = receiver.requests
    body = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert body["type"] == "batch.recovered"
    assert body["data"] == {
        "kind": "recovered",
        "batch_id": str(BATCH),
        "code": "invalid_api_key",
        "text": "The key is wrong.",
        "since": SINCE.isoformat(),
    }
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert str(request.url) == "https://hooks.example/in"


async def test_a_changed_webhook_is_not_verified() -> None:
    receiver = Receiver()
    await receiver.notifier().notify(notice())
    (request,) = receiver.requests
    changed = request.content.replace(b"wrong", b"right")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(changed, dict(request.headers))


async def test_two_notices_are_two_messages() -> None:
    receiver = Receiver()
    notifier = receiver.notifier()
    await notifier.notify(notice())
    await notifier.notify(notice())
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 2


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_a_webhook_that_is_not_taken_raises_and_is_contained(status: int) -> None:
    receiver, hearing = Receiver(status), Heard()
    with pytest.raises(httpx.HTTPError):
        await receiver.notifier().notify(notice())
    await Notifiers([receiver.notifier(), hearing]).notify(notice())
    assert len(receiver.requests) == 2  # it is posted once each time, not again and again
    assert hearing.notices == [notice()]


# Sentry


class Capturing(sentry_sdk.Transport):
    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events.append(envelope.get_event())


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SentryNotifier, Capturing]]:
    transport = Capturing({"dsn": "https://key@sentry.example/1"})
    made = sentry_sdk.Client
    monkeypatch.setattr(sentry_sdk, "Client", lambda **options: made(**options, transport=transport))
    notifier = SentryNotifier(dsn="https://key@sentry.example/1")
    yield notifier, transport
    notifier._client.close(timeout=0)


@pytest.mark.parametrize("kind", URGENT)
async def test_what_needs_somebody_becomes_an_event_grouped_by_its_code(
    captured: tuple[SentryNotifier, Capturing], kind: NoticeKind
) -> None:
    notifier, transport = captured
    secret_of_the_caller = "a prompt"
    await notifier.notify(notice(kind))
    (event,) = transport.events
    assert event["message"] == "The key is wrong."
    assert event["fingerprint"] == ["overnight", kind.value, "invalid_api_key"]
    assert event["tags"] == {"batch_id": str(BATCH), "code": "invalid_api_key", "kind": kind.value}
    assert secret_of_the_caller not in json.dumps(event, default=str)


@pytest.mark.parametrize("kind", CALM)
async def test_what_heals_by_itself_is_no_event(captured: tuple[SentryNotifier, Capturing], kind: NoticeKind) -> None:
    notifier, transport = captured
    await notifier.notify(notice(kind))
    assert transport.events == []


# Settings


def test_settings_say_who_hears_besides_the_log() -> None:
    assert notifiers_from(Settings()) == []
    url, secret = "https://hooks.example/in", SecretStr(SECRET)
    dsn = SecretStr("https://key@sentry.example/1")
    webhook, sentry = notifiers_from(Settings(webhook_url=url, webhook_secret=secret, sentry_dsn=dsn))
    assert isinstance(webhook, WebhookNotifier)
    assert isinstance(sentry, SentryNotifier)
    sentry._client.close(timeout=0)


def test_a_webhook_without_its_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OVERNIGHT_WEBHOOK_SECRET"):
        notifiers_from(Settings(webhook_url="https://hooks.example/in"))
