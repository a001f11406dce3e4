"""Notifiers beyond the log, as the settings ask for them."""

from overnight.errors import ConfigurationError
from overnight.notices import Notifier
from overnight.notifiers.sentry import SentryNotifier
from overnight.notifiers.webhook import WebhookNotifier
from overnight.settings import Settings


def notifiers_from(settings: Settings) -> list[Notifier]:
    """What OVERNIGHT_WEBHOOK_URL and OVERNIGHT_SENTRY_DSN ask for.

    Raises:
        ConfigurationError: a webhook without its secret.
        MissingExtraError: the packages for it are not installed.
    """
    notifiers: list[Notifier] = []
    if settings.webhook_url is not None:
        if settings.webhook_secret is None:
            raise ConfigurationError("OVERNIGHT_WEBHOOK_URL is set without OVERNIGHT_WEBHOOK_SECRET (whsec_...).")
        notifiers.append(WebhookNotifier(url=settings.webhook_url, secret=settings.webhook_secret.get_secret_value()))
    if settings.sentry_dsn is not None:
        notifiers.append(SentryNotifier(dsn=settings.sentry_dsn.get_secret_value()))
    return notifiers
