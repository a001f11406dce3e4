"""How batches, results and stray lines are shown: to people, to programs, and to a terminal that must not obey them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from rich.console import Console

from overnight.batches import Batch, BatchStatus, Outcome, Progress
from overnight.cli import exporting, main, tailing, watching
from overnight.cli.ending import DONE, PARTIAL, UNSUCCESSFUL, code_of
from overnight.errors import ConfigurationError
from overnight.storage.strays import StrayResult
from overnight.texts import visible
from tests.unit.cli.conftest import BATCH, NOW, OPEN_BATCH

EVIL = "\x1b]0;owned\x07\x9b2J\rred\u202e"


@pytest.mark.parametrize(
    ("status", "outcomes", "code"),
    [
        (BatchStatus.ENDED, {Outcome.SUCCEEDED: 2}, DONE),
        (BatchStatus.ENDED, {Outcome.SUCCEEDED: 2, Outcome.INVALID: 1}, PARTIAL),
        (BatchStatus.EXPIRED, {Outcome.SUCCEEDED: 2}, UNSUCCESSFUL),
        (BatchStatus.CANCELED, {}, UNSUCCESSFUL),
        (BatchStatus.FAILED, {Outcome.ERRORED: 2}, UNSUCCESSFUL),
    ],
)
def test_the_exit_code_says_how_a_batch_ended(status: BatchStatus, outcomes: dict[Outcome, int], code: int) -> None:
    assert code_of(replace(BATCH, status=status, outcomes=outcomes)) == code


def test_no_exit_code_means_two_things() -> None:
    from overnight.cli import ending

    codes = [value for name, value in vars(ending).items() if name.isupper() and isinstance(value, int)]
    assert len(set(codes)) == len(codes) == 7


@pytest.mark.parametrize("command", ["--help", "db roles", "estimate FILE"])
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(command: str, tmp_path: Path) -> None:
    """What rich prints, what typer does, and what comes out of an event loop."""
    file = tmp_path / "in.jsonl"
    file.write_text('{"custom_id": "a", "url": "/v1/responses", "body": {"model": "gpt-5.4-mini", "input": "Hello."}}')
    arguments = [str(file) if word == "FILE" else word for word in command.split()]
    reader, pipe = os.pipe()
    os.close(reader)
    environment = {**os.environ, "OPENAI_API_KEY": "sk-test"}
    called = [sys.executable, "-m", "overnight.cli", *arguments]
    ended = subprocess.run(called, stdout=pipe, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(pipe)
    assert (ended.stderr, ended.returncode) == (b"", 141)


def test_what_a_terminal_would_obey_is_shown_as_escapes() -> None:
    assert visible(EVIL) == "\\u001b]0;owned\\u0007\\u009b2J\\u000dred\\u202e"
    assert visible("naïve\tcafé\n日本") == "naïve\tcafé\n日本"
    assert json.loads(visible(json.dumps(EVIL, ensure_ascii=False))) == EVIL


@pytest.mark.parametrize("command", [["list"], ["show", str(BATCH.id)]])
def test_foreign_texts_reach_no_terminal_raw(
    command: list[str], store: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "tests.unit.cli.conftest.BATCH", replace(BATCH, model=EVIL, failure_reason=EVIL, last_error=EVIL)
    )
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "\\u001b]0;owned" in out
    assert not [char for char in out if (ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0]


class Screens:
    """A store whose batch is seen in one state after the other."""

    def __init__(self, *states: Batch) -> None:
        self.states = list(states)
        self.listings = self

    async def resolve(self, prefix: str) -> UUID:
        return BATCH.id

    async def page(self, *_: object) -> Sequence[Batch]:
        return self.states[:1]

    async def of(self, ids: object) -> Sequence[Batch]:
        return [self.states.pop(0) if len(self.states) > 1 else self.states[0]]


RUNNING = replace(OPEN_BATCH, id=BATCH.id, progress=Progress(total=3, done=1))
STATES = (RUNNING, RUNNING, replace(RUNNING, progress=Progress(total=3, done=2)), BATCH)


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> Screens:
    screens = Screens(*STATES)

    @asynccontextmanager
    async def open_store() -> AsyncIterator[Screens]:
        yield screens

    monkeypatch.setattr(watching, "open_store", open_store)
    return screens


@pytest.mark.usefixtures("screens")
@pytest.mark.parametrize("arguments", [[str(BATCH.id)], [str(BATCH.id), "--json"], []])
def test_watch_prints_a_line_of_json_for_every_change_where_there_is_no_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", *arguments, "--every", "0.1"]) == PARTIAL
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["progress"]["done"] for line in lines] == [1, 2, 2]
    assert [line["status"] for line in lines] == ["in_progress", "in_progress", "ended"]
    assert set(lines[0]) == set(lines[-1])


@pytest.mark.usefixtures("screens")
def test_watch_draws_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=150)
    monkeypatch.setattr(watching, "console", lambda: terminal)
    assert main(["watch", str(BATCH.id), "--every", "0.1"]) == PARTIAL
    drawn = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "2 succeeded, 1 errored" in drawn
    assert "{" not in drawn


def test_watch_without_anything_under_way_says_so(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    said: list[str] = []
    monkeypatch.setattr(watching, "console", lambda: terminal)
    monkeypatch.setattr(watching, "say", said.append)

    async def none(*_: object) -> Sequence[Batch]:
        return []

    monkeypatch.setattr(Screens, "page", none)
    monkeypatch.setattr(Screens, "of", none)
    assert main(["watch"]) == DONE
    assert said == ["No batch is under way."]


def shown(*batches: Batch) -> str:
    console = Console(file=io.StringIO(), width=160, markup=False)
    console.print(watching.progress_table(batches, NOW))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_progress_shows_counts_time_and_trouble() -> None:
    waiting = replace(RUNNING, submitted_at=NOW - timedelta(hours=2, minutes=5), trouble_code="invalid_api_key")
    text = shown(waiting, replace(BATCH, status=BatchStatus.FAILED, failure_reason="[bold]line 3[/bold]"))
    assert "1 of 3 done" in text
    assert "2 h 05 min" in text
    assert "trouble: invalid_api_key" in text
    assert "[bold]line 3[/bold]" in text


def test_a_provider_that_gives_no_counts_shows_the_number_of_entries() -> None:
    assert "3 entries" in shown(replace(OPEN_BATCH, progress=Progress()))


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (-1, "0 s"),
        (59, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(span: int, text: str) -> None:
    assert watching.shortly(timedelta(seconds=span)) == text


def test_list_hands_its_filters_on(store: SimpleNamespace) -> None:
    options = ["--status", "failed", "--status", "expired", "--provider", "openai", "--model", "m", "--handler", "h"]
    assert main(["list", *options, "--since", "2026-11-22T06:00Z", "--needs-attention", "--unfinished"]) == 0
    (wanted,) = store.listings.wanted
    assert list(wanted.statuses) == [BatchStatus.FAILED, BatchStatus.EXPIRED]
    assert (wanted.provider, wanted.model, wanted.handler, wanted.created_since) == ("openai", "m", "h", NOW)
    assert (wanted.needs_attention, wanted.unfinished, wanted.parent) == (True, True, None)


def test_list_says_how_to_see_older_ones(store: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--limit", "1"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert f"overnight list --before {OPEN_BATCH.id}" in err
    assert main(["list", "--before", str(OPEN_BATCH.id)]) == 0
    assert str(BATCH.id) in capsys.readouterr().out


def test_the_beginning_of_a_batch_id_is_enough(store: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(BATCH.id)[:14], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == str(BATCH.id)


# results and tail


@pytest.mark.parametrize(
    ("name", "output", "kind"),
    [
        (None, None, "jsonl"),
        (None, "a.csv", "csv"),
        (None, "a.PARQUET", "parquet"),
        (None, "a.txt", "jsonl"),
        ("csv", "a.parquet", "csv"),
    ],
)
def test_the_format_is_as_asked_for_or_as_the_file_is_called(name: str | None, output: str | None, kind: str) -> None:
    assert exporting._kind(name, Path(output) if output else None) == kind


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="jsonl, csv, parquet"):
        exporting._kind("xlsx", None)


def test_parquet_does_not_go_to_stdout() -> None:
    with pytest.raises(ConfigurationError, match="--output"), exporting._sink(None, exporting.ExportFormat.PARQUET):
        pass


def test_a_file_is_replaced_when_the_new_one_is_whole_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("old")
    half = exporting._replacing(file)
    half.__enter__().write(b"new")
    half.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("out.csv", "old")]
    with exporting._replacing(file) as whole:
        whole.write(b"new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("out.csv", "new")]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"), exporting._replacing(tmp_path / "nowhere" / "out.csv"):
        pass


def test_results_on_a_terminal_cannot_steer_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with exporting._sink(None, exporting.ExportFormat.CSV) as sink:
        sink.write(f"{EVIL}\r\n".encode())
    assert capsys.readouterr().out == f"{visible(EVIL)}\n"


def test_a_stray_line_is_shown_in_one_line_and_shortened() -> None:
    stray = StrayResult(
        received_at=NOW,
        kind="unknown",
        custom_id=EVIL,
        source="output",
        size=9_000,
        line=b"\xff\n" + b"x" * 900,
        place=(),
    )
    line = tailing._line(stray)
    assert line.startswith("2026-11-22 06:00:00  unknown  ")
    assert line.endswith("x… (9000 bytes)")
    assert len(line) < 250
    assert tailing._document(stray)["text"] == "\ufffd\n" + "x" * 900
