"""A handler that takes its time, as one that calls slow services does."""

import asyncio
from typing import ClassVar

from overnight import BatchHandler


class Patient(BatchHandler):
    SECONDS: ClassVar[int] = 30

    async def on_completion(self) -> None:
        await asyncio.sleep(self.SECONDS)
