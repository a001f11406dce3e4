"""What the activities stand on beyond what every step does: one adapter per provider."""

from collections.abc import Sequence

from overnight import handling
from overnight.notices import Notifier
from overnight.providers import open_provider
from overnight.providers.base import Provider
from overnight.settings import Settings
from overnight.storage.store import Store


class Services(handling.Services):
    """Made once per worker process; adapters open their connections at the first use."""

    def __init__(self, settings: Settings, store: Store, notifiers: Sequence[Notifier] = ()) -> None:
        super().__init__(settings, store, notifiers)
        self._providers: dict[str, Provider] = {}

    def provider(self, name: str) -> Provider:
        """The adapter of a provider.

        Raises:
            MissingKeyError: this worker has no key for it.
            UnknownProviderError: there is none.
        """
        if name not in self._providers:
            self._providers[name] = open_provider(name, self.settings)
        return self._providers[name]

    async def aclose(self) -> None:
        """Close all connections."""
        for provider in self._providers.values():
            await provider.aclose()
        await super().aclose()
