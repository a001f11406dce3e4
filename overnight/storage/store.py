"""Postgres, as the rest of the library sees it."""

from typing import Self

from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.settings import Settings
from overnight.storage.batches import BatchStore
from overnight.storage.campaigns import CampaignStore
from overnight.storage.console import ConsoleStore
from overnight.storage.database import ServerFacts, check_schema, create_engine, server_facts, upgrade
from overnight.storage.dispatches import DispatchStore
from overnight.storage.entries import EntryStore
from overnight.storage.filling import FillingStore
from overnight.storage.listings import BatchListing
from overnight.storage.outputs import OutputStore
from overnight.storage.past import PastStore
from overnight.storage.results import ResultStore
from overnight.storage.retention import RetentionStore
from overnight.storage.retries import RetryStore
from overnight.storage.roles import apply_roles
from overnight.storage.rounds import RoundStore
from overnight.storage.strays import StrayStore
from overnight.storage.submissions import SubmissionStore
from overnight.storage.vitals import VitalStore


class Store:
    """All tables behind one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.batches = BatchStore(engine)
        self.listings = BatchListing(engine)
        self.submissions = SubmissionStore(engine)
        self.entries = EntryStore(engine)
        self.past = PastStore(engine)
        self.results = ResultStore(engine)
        self.strays = StrayStore(engine)
        self.outputs = OutputStore(engine)
        self.dispatches = DispatchStore(engine)
        self.retention = RetentionStore(engine)
        self.retries = RetryStore(engine)
        self.console = ConsoleStore(engine)
        self.campaigns = CampaignStore(engine)
        self.filling = FillingStore(engine)
        self.rounds = RoundStore(engine)
        self.vitals = VitalStore(engine)

    @classmethod
    def from_settings(cls, settings: Settings, *, pooled: bool = True) -> Self:
        """A store on the database that the settings name; nothing is connected yet.

        Args:
            settings: with the database's address.
            pooled: keep connections open. Without a pool the store may be used from more than one event loop.

        Raises:
            ConfigurationError: no database is set.
        """
        url = settings.sqlalchemy_url
        return cls(create_engine(url) if pooled else create_engine(url, pool_size=0))

    async def check(self) -> None:
        """Make sure that the database answers and has the schema that this code needs.

        Raises:
            DatabaseError: it does not answer.
            SchemaVersionError: its schema is another.
        """
        await check_schema(self._engine)

    async def facts(self) -> ServerFacts:
        """Which Postgres this is, and what time it is there.

        Raises:
            DatabaseError: it does not answer.
        """
        return await server_facts(self._engine)

    async def upgrade(self) -> str:
        """Bring the schema to this code's version and return it.

        Raises:
            DatabaseError: the database does not answer.
        """
        return await upgrade(self._engine)

    async def apply_roles(self, prefix: str) -> None:
        """Make the Postgres roles of this deployment, and grant each what it needs.

        Raises:
            DatabaseError: the database does not answer.
            UsageError: the prefix makes no role names.
        """
        await apply_roles(self._engine, prefix)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()
