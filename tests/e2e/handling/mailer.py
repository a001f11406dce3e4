"""A worker that knows nothing of overnight: python mailer.py ADDRESS TASK_QUEUE FILE."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker


@activity.defn(name="send_report")
async def send_report(summary: dict[str, Any]) -> str:
    assert not any(name.partition(".")[0] == "overnight" for name in sys.modules)
    send(json.dumps(summary))
    return "sent"


def send(letter: str) -> None:
    with Path(sys.argv[3]).open("a") as sent:
        sent.write(f"{letter}\n")


async def work() -> None:
    client = await Client.connect(sys.argv[1])
    async with Worker(client, task_queue=sys.argv[2], activities=[send_report]):
        await asyncio.Event().wait()


asyncio.run(work())
