"""What the activities stand on: the database, and one adapter per provider."""

from overnight.providers import open_provider
from overnight.providers.base import Provider
from overnight.settings import Settings
from overnight.storage.store import Store


class Services:
    """Made once per worker process; adapters open their connections at the first use."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
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
        await self.store.aclose()
