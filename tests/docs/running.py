"""Runs the blocks of one page: Python in this process, shell blocks in a shell, SQL in the page's database."""

import ast
import asyncio
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import psycopg

from overnight import Overnight
from overnight.cli import main
from overnight.handlers import handlers
from overnight.tasks import tasks
from tests.docs.blocks import PRINTS, ROOT, Block
from tests.docs.checking import commands

_SHELL = ("bash", "sh")
_CONTINUED = re.compile(r"\\\n\s*")


class Page:
    """A reader who works through a page."""

    def __init__(self, folder: Path, overnight: Overnight, given: Mapping[str, Any]) -> None:
        self._folder, self._overnight = folder, overnight
        self._module = ModuleType(f"page_{folder.name}")
        self._module.__dict__.update(given, overnight=overnight)
        self._staying: list[asyncio.subprocess.Process] = []
        self.printed = ""

    async def run(self, block: Block) -> None:
        """Do what a block says, or look whether the block before printed what this one says."""
        if block.title == PRINTS:
            assert matches(block.code, self.printed), f"{block.where} says:\n{block.code}\nIt printed:\n{self.printed}"
        elif block.file:
            self._write(block)
        elif block.language == "python":
            await self._python(block)
        elif block.language in _SHELL:
            await self._shell(block)
        elif block.language == "sql":
            await asyncio.to_thread(self._sql, block)

    def _write(self, block: Block) -> None:
        assert block.file is not None
        file = self._folder / block.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code)
        if file.suffix == ".py":
            importlib.import_module(".".join(Path(block.file).with_suffix("").parts))

    async def _python(self, block: Block) -> None:
        # Line numbers of the page, so that a failure names the line that a reader sees.
        tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
        code = compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with redirect_stdout(StringIO()) as out:
            running = eval(code, self._module.__dict__)
            if inspect.isawaitable(running):
                await running
        if not block.hidden:
            self.printed = out.getvalue()

    async def _shell(self, block: Block) -> None:
        if block.ready:
            await self._stay(block, block.ready)
        elif ours := own_commands(block.code):
            await self._commands(block, ours)
        else:
            await self._bash(block)

    async def _commands(self, block: Block, ours: Sequence[Sequence[str]]) -> None:
        """Commands of our own need no process of their own, which would take a second each."""
        out, ended = TextIOWrapper(BytesIO(), write_through=True), []
        for words in ours:
            meant = [await self._with_ids(word) for word in words]
            with redirect_stdout(out):
                ended.append(await asyncio.to_thread(main, meant))
        self.printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
        expected = [0] * (len(ours) - 1) + [block.exit_code]
        assert ended == expected, f"{block.where} ended with {ended}:\n{self.printed}"

    async def _bash(self, block: Block) -> None:
        process = await self._start(block, asyncio.subprocess.PIPE)
        out, err = await process.communicate()
        self.printed = out.decode()
        said = f"{block.where} ended with {process.returncode}:\n{out.decode()}\n{err.decode()}"
        assert process.returncode == block.exit_code, said

    async def _stay(self, block: Block, ready: str) -> None:
        log = self._folder / f"{block.line}.log"
        with log.open("wb") as file:
            process = await self._start(block, file, subprocess.STDOUT)
        self._staying.append(process)
        while ready not in log.read_text():
            assert process.returncode is None, f"{block.where} ended:\n{log.read_text()}"
            await asyncio.sleep(0.05)

    async def _start(
        self, block: Block, out: int | IO[bytes], err: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        # Of `exec` and one command nothing is left behind when it is told to end.
        code = ("exec " if block.ready else "") + await self._with_ids(block.code)
        return await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", code, cwd=self._folder, env=self._environment(), stdout=out, stderr=err
        )

    async def close(self) -> None:
        """End what stays."""
        for process in self._staying:
            process.terminate()
            await process.wait()

    async def _with_ids(self, code: str) -> str:
        """BATCH_ID in a page is the newest batch."""
        if "BATCH_ID" not in code:
            return code
        [newest] = await self._overnight.batches(limit=1)
        return code.replace("BATCH_ID", str(newest.id))

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        modules = os.pathsep.join([str(self._folder), str(ROOT)])
        return {**os.environ, "PATH": path, "PYTHONPATH": modules, "COLUMNS": "120", "NO_COLOR": "1"}

    def _sql(self, block: Block) -> None:
        assert self._overnight.settings.database_url is not None
        with psycopg.connect(self._overnight.settings.database_url.get_secret_value()) as connection:
            for statement in filter(str.strip, block.code.split(";")):
                connection.execute(statement.encode())

    @contextmanager
    def open(self) -> Iterator[None]:
        """While the page is worked through, its files can be imported; afterwards its Tasks and handlers are forgotten,
        for another page may have others of the same names.
        """
        known, modules, directory = _names(), set(sys.modules), Path.cwd()
        sys.modules[self._module.__name__] = self._module
        sys.path.insert(0, str(self._folder))
        os.chdir(self._folder)
        try:
            yield
        finally:
            os.chdir(directory)
            sys.path.remove(str(self._folder))
            importlib.invalidate_caches()
            for name in set(sys.modules) - modules:
                if str(self._folder) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]
            del sys.modules[self._module.__name__]
            _forget(known)


def own_commands(code: str) -> list[list[str]]:
    """The commands of a block that has nothing but commands of our own; else nothing."""
    found = [words for words in commands(code) if words]
    whole = len(found) == len(_CONTINUED.sub(" ", code).strip().splitlines())
    simple = whole and not re.search("[$<>]", code) and all(words[0] == "overnight" for words in found)
    return [words[1:] for words in found] if simple else []


def _names() -> Sequence[dict[Any, Any]]:
    return [dict(each) for names in (tasks, handlers) for each in (names._classes, names._names)]


def _forget(known: Sequence[dict[Any, Any]]) -> None:
    present = [each for names in (tasks, handlers) for each in (names._classes, names._names)]
    for each, before in zip(present, known, strict=True):
        each.clear()  # type: ignore[attr-defined]
        each.update(before)  # type: ignore[attr-defined]


def matches(shown: str, printed: str) -> bool:
    """Whether what is shown was printed, where … stands for anything."""
    pattern = re.escape(shown.strip()).replace("…", ".*?")
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
