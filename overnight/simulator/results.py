"""Result lines: every entry is answered once, in a seeded order of its own, into a work file.

A batch that ends early then owns a prefix of that work: how far each finished entry reaches into the files, and what
the entries up to there came to, is kept in a small index beside them. So a poll costs one lookup, and a canceled batch
hands out exactly the lines it was counted for.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from overnight.simulator.answers import Setting, answer
from overnight.simulator.faults import LineEffect
from overnight.simulator.jsontext import dump, parse
from overnight.simulator.line_faults import SpoilingResponder, spoils_answers
from overnight.simulator.models import Rendered
from overnight.simulator.records import BatchRecord, Tally

COLUMNS = 6
"""Per finished entry, cumulative: bytes of the main file, bytes of the error file, then the four figures of `Tally`."""
CHUNK = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where a batch's answered entries lie."""

    requests: Path
    main: Path
    errors: Path
    """OpenAI's second file; empty for Anthropic, which has one."""
    index: Path
    """Written last: where it exists the other two are complete."""

    def written(self) -> int:
        return self.index.stat().st_size // (8 * COLUMNS) if self.index.exists() else 0

    def figures(self, done: int) -> tuple[int, int, Tally]:
        """How far the first `done` entries reach, and what they came to."""
        if done <= 0:
            return 0, 0, Tally()
        row = array("Q")
        with self.index.open("rb") as index:
            index.seek((done - 1) * 8 * COLUMNS)
            row.fromfile(index, COLUMNS)
        tally = Tally(succeeded=row[2], errored=row[3], input_tokens=row[4], output_tokens=row[5])
        return row[0], row[1], tally


def work_of(folder: Path, batch_id: str) -> Work:
    places = {name: folder / f"{batch_id}.{name}" for name in ("requests", "main", "errors", "index")}
    return Work(**places)


def finishing_order(seed: int, total: int) -> list[int]:
    order = list(range(total))
    Random(f"{seed}:order:{total}").shuffle(order)
    return order


def line_offsets(path: Path) -> Sequence[int]:
    """Where each request line starts; blank lines, which OpenAI skips, are left out."""
    offsets, position = array("Q"), 0
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                offsets.append(position)
            position += len(line)
    return offsets


def entry_token(setting: Setting, batch: BatchRecord, custom_id: str) -> str:
    return hashlib.blake2b(f"{setting.config.seed}:{batch.ordinal}:{custom_id}".encode(), digest_size=16).hexdigest()


class WorkStoppedError(Exception):
    """The simulator is stopping; what was half written is left for the next start to clear away."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The answering of one batch."""

    work: Work
    batch: BatchRecord
    setting: Setting
    limit: int
    """Only the first so many entries in finishing order are answered: a canceled batch needs no more."""
    scratch: Callable[[], Path]
    stopping: Callable[[], bool]


def write_answers(job: Job) -> None:
    """Answer every entry that the job asks for. Runs in a worker thread; safe to be killed."""
    offsets = line_offsets(job.work.requests)
    order = finishing_order(job.setting.config.seed, len(offsets))[: job.limit]
    main, errors, index = job.scratch(), job.scratch(), job.scratch()
    setting, sums = _spoiled(job), [0] * COLUMNS
    with (
        job.work.requests.open("rb") as source,
        main.open("wb") as good,
        errors.open("wb") as bad,
        index.open("wb") as rows,
    ):
        for number in order:
            if job.stopping():
                raise WorkStoppedError
            source.seek(offsets[number])
            line, rendered = _answered(job.batch, setting, source.readline())
            to_errors = job.batch.provider == "openai" and not rendered.ok
            (bad if to_errors else good).write(line)
            _add(sums, len(line), rendered, to_errors=to_errors)
            array("Q", sums).tofile(rows)
    main.rename(job.work.main)
    errors.rename(job.work.errors)
    index.rename(job.work.index)


def _spoiled(job: Job) -> Setting:
    effects = [e for e in job.batch.effects if isinstance(e, LineEffect) and spoils_answers(e)]
    return replace(job.setting, responder=SpoilingResponder(effects, job.setting.responder)) if effects else job.setting


def _answered(batch: BatchRecord, setting: Setting, raw: bytes) -> tuple[bytes, Rendered]:
    entry = parse_entry(raw)
    custom_id = str(entry["custom_id"])
    body = entry["body"] if batch.provider == "openai" else entry["params"]
    return answered_line(setting, body, custom_id=custom_id, token=entry_token(setting, batch, custom_id))


def answered_line(setting: Setting, body: Any, *, custom_id: str, token: str) -> tuple[bytes, Rendered]:
    """The result line of one entry that was reached, and what it is billed for."""
    rendered = answer(setting, body, custom_id=custom_id, token=token)
    render = openai_line if setting.provider == "openai" else anthropic_line
    return dump(render(custom_id, rendered, token)) + b"\n", rendered


def parse_entry(raw: bytes) -> Any:
    """An accepted line. Anthropic's may hold escapes that the strict parser refuses."""
    try:
        return parse(raw)
    except ValueError:
        return json.loads(raw)


def _add(sums: list[int], size: int, rendered: Rendered, *, to_errors: bool) -> None:
    sums[1 if to_errors else 0] += size
    sums[2 if rendered.ok else 3] += 1
    sums[4] += rendered.input_tokens
    sums[5] += rendered.output_tokens


def openai_line(custom_id: str, rendered: Rendered, token: str) -> dict[str, Any]:
    response = {"status_code": rendered.status, "request_id": token, "body": rendered.body}
    return {"id": f"batch_req_{token}", "custom_id": custom_id, "response": response, "error": None}


def anthropic_line(custom_id: str, rendered: Rendered, _token: str) -> dict[str, Any]:
    if rendered.ok:
        return {"custom_id": custom_id, "result": {"type": "succeeded", "message": rendered.body}}
    return {"custom_id": custom_id, "result": {"type": "errored", "error": rendered.body}}


OPENAI_UNFINISHED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "canceled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


def unfinished_lines(work: Work, batch: BatchRecord, setting: Setting, done: int, outcome: str) -> Iterator[bytes]:
    """One line for each entry that a canceled or expired batch did not get to."""
    offsets = line_offsets(work.requests)
    with work.requests.open("rb") as source:
        for number in finishing_order(setting.config.seed, len(offsets))[done:]:
            source.seek(offsets[number])
            custom_id = str(parse_entry(source.readline())["custom_id"])
            yield unfinished_line(setting, outcome, custom_id=custom_id, token=entry_token(setting, batch, custom_id))


def unfinished_line(setting: Setting, outcome: str, *, custom_id: str, token: str) -> bytes:
    """The result line of an entry that its batch did not get to, because it was `canceled` or `expired`."""
    return dump(_unfinished(setting, custom_id, outcome, token)) + b"\n"


def _unfinished(setting: Setting, custom_id: str, outcome: str, token: str) -> dict[str, Any]:
    if setting.provider == "anthropic":
        return {"custom_id": custom_id, "result": {"type": outcome}}
    code, message = OPENAI_UNFINISHED[outcome]
    error = {"code": code, "message": message}
    return {"id": f"batch_req_{token}", "custom_id": custom_id, "response": None, "error": error}


def first_lines(path: Path, size: int) -> Iterator[bytes]:
    """The lines within the first `size` bytes of a work file."""
    with path.open("rb") as lines:
        while lines.tell() < size:
            yield lines.readline()


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    with path.open("wb") as target:
        target.writelines(lines)
        return target.tell()
