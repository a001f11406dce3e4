"""The simulator's memory: SQLite for objects, a folder for files.

Killed at any moment, it is consistent: a file is complete before the row that names it is committed, and what was
half written lies in `tmp/`, which is emptied at the next start.
"""

import fcntl
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from overnight.simulator.faults import Fault, LiveFault
from overnight.simulator.models import Provider
from overnight.simulator.records import BatchRecord, CallCount, FileRecord
from overnight.simulator.responders import ScriptedAnswer

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value REAL NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, provider TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (custom_id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    provider TEXT, operation TEXT, client TEXT, status INTEGER, count INTEGER NOT NULL,
    PRIMARY KEY (provider, operation, client, status));
"""
TABLES = ("settings", "files", "batches", "faults", "answers", "calls", "sqlite_sequence")


class StateInUseError(RuntimeError):
    """Another simulator works on the same state folder."""


class Store:
    """Every method is one short transaction, safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files_dir = folder / "files"
        self.work_dir = folder / "work"
        self.tmp_dir = folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _locked(folder)
        shutil.rmtree(self.tmp_dir, ignore_errors=True)
        for place in (self.files_dir, self.work_dir, self.tmp_dir):
            place.mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "state.sqlite", check_same_thread=False, isolation_level=None)
        # WAL without a sync per commit survives the death of the process, which is what is promised here.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()
        self._lock_file.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, sql: str, *values: object) -> list[tuple[str, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # --- the clock: wall time plus what was skipped

    def now(self) -> float:
        return time.time() + self.setting("skipped", 0.0)

    def advance(self, seconds: float) -> None:
        self.put_setting("skipped", self.setting("skipped", 0.0) + seconds)

    def setting(self, name: str, default: float) -> float:
        rows = self._rows("SELECT value FROM settings WHERE name = ?", name)
        return float(rows[0][0]) if rows else default

    def put_setting(self, name: str, value: float) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    # --- files

    def scratch(self) -> Path:
        return self.tmp_dir / uuid.uuid4().hex

    def path_of(self, file_id: str) -> Path:
        return self.files_dir / file_id

    def input_of(self, batch_id: str) -> Path:
        """The batch's own link to its requests, which outlives a deletion of the uploaded file."""
        return self.work_dir / f"{batch_id}.requests"

    def add_file(self, record: FileRecord, content: Path) -> None:
        content.rename(self.path_of(record.id))
        with self.transaction() as db:
            _insert_file(db, record)

    def file(self, file_id: str) -> FileRecord | None:
        rows = self._rows("SELECT record FROM files WHERE id = ?", file_id)
        return FileRecord.model_validate_json(rows[0][0]) if rows else None

    def files(self) -> list[FileRecord]:
        """Oldest first."""
        return [FileRecord.model_validate_json(r[0]) for r in self._rows("SELECT record FROM files ORDER BY ordinal")]

    def delete_file(self, file_id: str) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path_of(file_id).unlink(missing_ok=True)

    # --- batches

    def add_batch(self, record: BatchRecord) -> BatchRecord:
        with self.transaction() as db:
            values = (record.id, record.provider, "")
            number = db.execute("INSERT INTO batches (id, provider, record) VALUES (?, ?, ?)", values).lastrowid
            numbered = record.model_copy(update={"ordinal": number})
            db.execute("UPDATE batches SET record = ? WHERE ordinal = ?", (numbered.model_dump_json(), number))
        return numbered

    def batch(self, batch_id: str, provider: Provider) -> BatchRecord | None:
        rows = self._rows("SELECT record FROM batches WHERE id = ? AND provider = ?", batch_id, provider)
        return BatchRecord.model_validate_json(rows[0][0]) if rows else None

    def batches(self, provider: Provider) -> list[BatchRecord]:
        """Newest first, as both providers list them."""
        rows = self._rows("SELECT record FROM batches WHERE provider = ? ORDER BY ordinal DESC", provider)
        return [BatchRecord.model_validate_json(r[0]) for r in rows]

    def change_batch(self, batch: BatchRecord, **changes: object) -> BatchRecord:
        changed = batch.model_copy(update=changes)
        with self.transaction() as db:
            db.execute("UPDATE batches SET record = ? WHERE id = ?", (changed.model_dump_json(), changed.id))
        return changed

    def settle(self, batch: BatchRecord, files: Iterable[FileRecord]) -> None:
        """The end of a batch and the files that it made, together or not at all."""
        with self.transaction() as db:
            known = db.execute("UPDATE batches SET record = ? WHERE id = ?", (batch.model_dump_json(), batch.id))
            # A reset may have come in between; then there is nothing that these files belong to.
            for record in files if known.rowcount else ():
                _insert_file(db, record)

    def delete_batch(self, batch: BatchRecord) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM batches WHERE id = ?", (batch.id,))
        for path in (self.path_of(batch.id), *self.work_dir.glob(f"{batch.id}.*")):
            path.unlink(missing_ok=True)

    # --- faults

    def add_faults(self, faults: Sequence[Fault]) -> list[LiveFault]:
        now, added = self.now(), []
        with self.transaction() as db:
            for fault in faults:
                number = db.execute("INSERT INTO faults (record) VALUES ('')").lastrowid or 0
                live = LiveFault(id=number, fault=fault, added_at=now)
                db.execute("UPDATE faults SET record = ? WHERE id = ?", (live.model_dump_json(), number))
                added.append(live)
        return added

    def faults(self) -> list[LiveFault]:
        return [LiveFault.model_validate_json(r[0]) for r in self._rows("SELECT record FROM faults ORDER BY id")]

    def put_faults(self, faults: Iterable[LiveFault]) -> None:
        with self.transaction() as db:
            for live in faults:
                db.execute("UPDATE faults SET record = ? WHERE id = ?", (live.model_dump_json(), live.id))

    def delete_faults(self, fault_id: int | None = None) -> int:
        with self.transaction() as db:
            return db.execute("DELETE FROM faults WHERE ? IS NULL OR id = ?", (fault_id, fault_id)).rowcount

    # --- scripted answers

    def put_answers(self, answers: Iterable[ScriptedAnswer]) -> None:
        with self.transaction() as db:
            rows = [("@".join(filter(None, a.key)), a.model_dump_json(exclude_unset=True)) for a in answers]
            db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)

    def answers(self) -> list[ScriptedAnswer]:
        rows = self._rows("SELECT record FROM answers ORDER BY rowid")
        return [ScriptedAnswer.model_validate_json(row[0]) for row in rows]

    def delete_answers(self) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM answers")

    # --- the log of calls

    def count_call(self, provider: Provider, operation: str, client: str, status: int) -> None:
        with self.transaction() as db:
            sql = "INSERT INTO calls VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1"
            db.execute(sql, (provider, operation, client, status))

    def calls(self) -> list[CallCount]:
        rows = self._rows("SELECT provider, operation, client, status, count FROM calls ORDER BY 1, 2, 3, 4")
        names = ("provider", "operation", "client", "status", "count")
        return [CallCount.model_validate(dict(zip(names, row, strict=True))) for row in rows]

    def reset(self) -> None:
        """Forget everything, the clock's skips included."""
        with self.transaction() as db:
            for table in TABLES:
                db.execute(f"DELETE FROM {table}")  # noqa: S608  (names from the constant above)
        for place in (self.files_dir, self.work_dir):
            for path in place.iterdir():
                path.unlink()


def _insert_file(db: sqlite3.Connection, record: FileRecord) -> None:
    db.execute("INSERT OR IGNORE INTO files (id, record) VALUES (?, ?)", (record.id, record.model_dump_json()))


def _locked(folder: Path) -> IO[str]:
    """Two processes on one state would each answer from half of it. The lock dies with its process."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StateInUseError(
            f"Another simulator is using {folder}. Stop it, or choose another state folder."
        ) from error
    return lock
