"""A running simulator: configuration, memory, and the work that brings a batch to its results."""

import asyncio
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from overnight.simulator.answers import Setting
from overnight.simulator.config import SimulatorConfig
from overnight.simulator.faults import LineEffect
from overnight.simulator.lifecycle import Stage, State, state, timeline
from overnight.simulator.line_faults import LineSpoiler, spoils_answers
from overnight.simulator.models import Responder
from overnight.simulator.records import BatchRecord, FileRecord, Tally
from overnight.simulator.responders import ScriptedResponder, load_responder
from overnight.simulator.results import Job, Work, first_lines, unfinished_lines, work_of, write_answers, write_lines
from overnight.simulator.store import Store

OUTPUT_LIFETIME = 30 * 86_400.0
PATIENCE = 5.0
"""Seconds that a call waits for answers to be written; longer, and the batch is shown as still at work."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A batch as of now."""

    batch: BatchRecord
    state: State
    tally: Tally
    now: float

    @classmethod
    def of_new(cls, batch: BatchRecord) -> "View":
        """What create answers: nothing has happened yet, however short the stages are."""
        first: Stage = "validating" if batch.provider == "openai" else "in_progress"
        unborn = State(stage=first, done=0, timeline=timeline(batch))
        return cls(batch=batch, state=unborn, tally=Tally(), now=batch.created_at - 1)


def _still_working(batch: BatchRecord, seen: State) -> State:
    """What the services show of a batch that is late: never terminal before its results can be read."""
    stage: Stage = "in_progress"
    if seen.timeline.cancel_at is not None:
        stage = "canceling"
    elif seen.stage != "in_progress" and batch.provider == "openai":
        stage = "finalizing"
    return replace(seen, stage=stage, done=0)


class Simulator:
    """Owns its state folder for as long as it is open."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.responder = load_responder(config.responder)
        self._temporary = tempfile.TemporaryDirectory(prefix="simulator-") if config.state_dir is None else None
        self.store = Store(Path(self._temporary.name) if self._temporary else Path(config.state_dir or "."))
        self._tasks: dict[str, asyncio.Task[BatchRecord]] = {}
        self._stopping = threading.Event()
        if not self.store.setting("born", 0):
            self.born()

    def born(self) -> None:
        """Scripted faults are added to a new state once, so that a restart does not arm them again."""
        self.store.add_faults(self.config.faults)
        self.store.put_setting("born", 1)

    async def close(self) -> None:
        """Work under way is given up, between two entries; the next start takes it up from the beginning."""
        self._stopping.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.store.close()
        if self._temporary:
            self._temporary.cleanup()

    def now(self) -> float:
        return self.store.now()

    def setting(self, endpoint: str, *, version: str = "", created_at: float, batch: bool = True) -> Setting:
        return Setting(
            config=self.config,
            responder=self.answering(),
            endpoint=endpoint,
            created_at=created_at,
            version=version,
            batch=batch,
        )

    def answering(self) -> Responder:
        scripted = self.store.answers()
        return ScriptedResponder(scripted, self.responder) if scripted else self.responder

    async def view(self, batch: BatchRecord) -> View:
        """The batch as of now, brought as far as now demands: answers while it works, files once it is over."""
        now = self.now()
        seen = state(batch, now)
        if seen.stage in {"validating", "failed"}:
            return View(batch=batch, state=seen, tally=Tally(), now=now)
        if batch.provider == "anthropic" and not seen.terminal:
            # Anthropic reports no progress, so nothing needs to be known before the end.
            return View(batch=batch, state=seen, tally=Tally(), now=now)
        if batch.settled is None:
            brought = await self._brought(batch, seen)
            if brought is None:
                return View(batch=batch, state=_still_working(batch, seen), tally=Tally(), now=now)
            batch = brought
        tally = batch.settled or self.work(batch).figures(seen.done)[2]
        return View(batch=batch, state=seen, tally=tally, now=now)

    async def _brought(self, batch: BatchRecord, seen: State) -> BatchRecord | None:
        """The batch with its work done, or None where that takes longer than a caller should wait."""
        while True:
            task = self._tasks.get(batch.id) or self._start(batch, seen)
            done, _ = await asyncio.wait({task}, timeout=PATIENCE)
            if not done:
                return None
            fresh = task.result()
            if fresh.settled is not None or not seen.terminal:
                return fresh

    def _start(self, batch: BatchRecord, seen: State) -> "asyncio.Task[BatchRecord]":
        task = asyncio.create_task(asyncio.to_thread(self._worked, batch, seen))
        self._tasks[batch.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch.id, None))
        return task

    def work(self, batch: BatchRecord) -> Work:
        return work_of(self.store.work_dir, batch.id)

    def _worked(self, batch: BatchRecord, seen: State) -> BatchRecord:
        """Runs in a thread, one at a time per batch; a second caller finds the work done."""
        fresh = self.store.batch(batch.id, batch.provider)
        if fresh is None or fresh.settled is not None:
            return fresh or batch
        work, limit = self.work(batch), seen.done if seen.terminal else batch.total
        setting = self.setting(batch.endpoint, version=batch.api_version, created_at=batch.created_at)
        if not work.index.exists() or work.written() < limit:
            job = Job(
                work=work,
                batch=fresh,
                setting=setting,
                limit=limit,
                scratch=self.store.scratch,
                stopping=self._stopping.is_set,
            )
            write_answers(job)
        return _Settlement(self, fresh, seen, setting).settle() if seen.terminal else fresh


class _Settlement:
    """Result files and final figures of one batch, in one step that either happened or did not."""

    def __init__(self, simulator: Simulator, batch: BatchRecord, seen: State, setting: Setting) -> None:
        self.store = simulator.store
        self.batch = batch
        self.seen = seen
        self.setting = setting
        self.work = simulator.work(batch)
        effects = [e for e in batch.effects if isinstance(e, LineEffect) and not spoils_answers(e)]
        self.spoiler = LineSpoiler(effects) if effects else None

    def settle(self) -> BatchRecord:
        main_size, errors_size, tally = self.work.figures(self.seen.done)
        main, errors = self.store.scratch(), self.store.scratch()
        leftovers = self.leftovers()
        if self.batch.provider == "anthropic":
            self.write(main, [*self.parts(self.work.main, main_size), leftovers])
            main.rename(self.store.path_of(self.batch.id))
            settled = self.batch.model_copy(update={"settled": tally})
            self.store.settle(settled, ())
            return settled
        self.write(main, self.parts(self.work.main, main_size))
        self.write(errors, [*self.parts(self.work.errors, errors_size), leftovers])
        output, error = self.kept("output", main), self.kept("error", errors)
        files = [record for record in (output, error) if record]
        ids = {"output_file_id": output.id if output else None, "error_file_id": error.id if error else None}
        settled = self.batch.model_copy(update={"settled": tally, **ids})
        self.store.settle(settled, files)
        return settled

    def leftovers(self) -> Iterator[bytes]:
        if self.seen.stage == "ended":
            return iter(())
        return unfinished_lines(self.work, self.batch, self.setting, self.seen.done, self.seen.stage)

    def parts(self, path: Path, size: int) -> list[Iterator[bytes]]:
        return [first_lines(path, size)]

    def write(self, target: Path, parts: Iterable[Iterable[bytes]]) -> int:
        lines = (line for part in parts for line in part)
        return write_lines(target, self.spoiler.spoil(lines) if self.spoiler else lines)

    def kept(self, which: str, content: Path) -> FileRecord | None:
        """OpenAI names no file that would be empty."""
        size = content.stat().st_size
        if not size:
            content.unlink()
            return None
        created_at = self.seen.timeline.closed_at
        lifetime = 0.0 if self.batch.effect("archive") else self.batch.output_lifetime or OUTPUT_LIFETIME
        record = FileRecord(
            id=f"file-{uuid4().hex}",
            purpose="batch_output",
            filename=f"{self.batch.id}_{which}.jsonl",
            size=size,
            created_at=created_at,
            expires_at=created_at + lifetime,
        )
        content.rename(self.store.path_of(record.id))
        return record
