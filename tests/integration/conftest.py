from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from overnight.settings import Settings
from overnight.storage.database import create_engine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A second way into this test's database, to look at what the store wrote."""
    engine = create_engine(Settings(database_url=SecretStr(database_url)).sqlalchemy_url)
    yield engine
    await engine.dispose()
