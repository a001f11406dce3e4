"""What `overnight submit` says of a file before anything is written."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from overnight import Task
from overnight.cli import main
from overnight.cli.submitting import _hand_over_or_discard
from overnight.errors import TemporalError
from tests.unit.cli.conftest import BATCH

MODEL = "gpt-5.4-mini"

Ended = tuple[int, str, str]
Rehearse = Callable[..., Ended]


class Shout(Task[str], name="submit-shout"):
    word: str

    def prompt(self) -> str:
        return f"Shout: {self.word}"


class Stdin(io.BytesIO):
    name = "<stdin>"


class Named(Task[str], name="command-named"):
    custom_id: str

    def prompt(self) -> str:
        return f"Who is {self.custom_id}?"


def openai(custom_id: str, **more: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Say {custom_id}."}]} | more
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


@pytest.fixture
def rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rehearse:
    """Submit a file of these lines, without a server."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test")
    monkeypatch.delenv("OVERNIGHT_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def rehearse(lines: list[Any], *options: str) -> Ended:
        text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        (tmp_path / "in.jsonl").write_text(text)
        code = main(["submit", "in.jsonl", "--dry-run", *options])
        out, err = capsys.readouterr()
        return code, out, err

    return rehearse


BAD = [
    ([openai("a"), "{"], [], "line 2: not JSON"),
    ([openai("a"), "", openai("b", model="gpt-5.4")], [], "line 3: Entry b: model: the request names 'gpt-5.4'"),
    ([openai("a")], ["--model", "gpt-5.4"], f"line 1: Entry a: model: the request names '{MODEL}'"),
    ([openai("a"), openai("b") | {"url": "/v1/responses"}], [], "line 2: Entry b: url: "),
    ([openai("a"), openai("b"), openai("a")], [], "line 3: custom_id 'a' is on line 1 already"),
    ([openai("a b")], [], "line 1: The custom id 'a b'"),
    ([openai("a", stream=True)], [], "line 1: Entry a: stream: "),
    ([], [], "holds no requests"),
    ([openai("a", model=None)], [], "Give --model"),
    ([{"word": "a"}], ["--task", "submit-shout", "--model", MODEL], "Give --provider"),
    (
        [{"word": "a"}, {"word": 1}],
        ["--task", "submit-shout", "--provider", "openai", "--model", MODEL],
        "line 2: Entry number 2: the fields do not fit task 'submit-shout': word: ",
    ),
    ([openai("a")], ["--task", "nobody"], "Unknown task 'nobody'"),
    ([openai("a")], ["--handler", "nobody"], "Unknown handler 'nobody'"),
    ([openai("a")], ["--task", "submit-shout", "--format", "openai"], "give one"),
    ([openai("a")], ["--provider", "anthropic"], "takes no batches for this model"),
]


@pytest.mark.parametrize(("lines", "options", "why"), BAD)
def test_whatever_is_wrong_with_a_file_is_said(
    rehearse: Rehearse, lines: list[Any], options: list[str], why: str
) -> None:
    code, out, err = rehearse(lines, *options)
    assert (code, out) == (2, "")
    assert why in err


def test_a_dry_run_says_what_would_be_submitted(rehearse: Rehearse) -> None:
    code, out, _ = rehearse([openai("a"), openai("b")], "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["provider"], found["model"], found["endpoint"]) == ("openai", MODEL, "/v1/chat/completions")
    assert (found["entries"], found["request_bytes"] > 100) == (2, True)
    assert found["source"] == "in.jsonl"
    assert found["estimate"]["entries"] == 2
    shown = " ".join(rehearse([openai("a"), openai("b")])[1].split())
    assert f"entries 2, {found['request_bytes']} bytes" in shown
    assert "cost at most unknown" in shown
    assert "2 of the requests set no limit" in shown


def test_an_estimate_of_a_file_is_what_a_dry_run_prints(rehearse: Rehearse, capsys: pytest.CaptureFixture[str]) -> None:
    line = openai("a", max_completion_tokens=100)
    _, rehearsed, _ = rehearse([line], "--json")
    assert main(["estimate", "in.jsonl", "--json"]) == 0
    assert capsys.readouterr().out == rehearsed
    cost = json.loads(rehearsed)["estimate"]["cost_at_most"]
    assert Decimal(cost["list_price"]) == 2 * Decimal(cost["billed"]) > 0


def test_a_command_whose_output_is_closed_does_its_work_all_the_same(rehearse: Rehearse) -> None:
    rehearse([openai("a")])
    command = f"{sys.executable} -m overnight.cli estimate in.jsonl >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_that_could_cost_more_than_is_allowed_is_refused_with_the_figure(rehearse: Rehearse) -> None:
    line = openai("a", max_completion_tokens=100_000)
    assert rehearse([line], "--max-cost", "$5")[0] == 0
    code, _, err = rehearse([line], "--max-cost", "0.01")
    assert (code, "in.jsonl has a max_cost of $0.01. It could cost up to $" in err) == (2, True)
    assert "not known" in rehearse([openai("a")], "--max-cost", "5")[2]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--max-cost", "much"], "no amount of US dollars"),
        (["--max-cost", "-1"], "no amount of US dollars"),
        (["--max-cost", "nan"], "no amount of US dollars"),
        (["--max-age", "0s"], "max"),
        (["--max-age", "soon"], "no duration"),
        (["--metadata", "who"], "KEY=VALUE"),
        (["--model", "gpt-5.4-mimi"], "no such model"),
    ],
)
def test_a_senseless_option_is_said(rehearse: Rehearse, options: list[str], why: str) -> None:
    code, _, err = rehearse([openai("a")], *options)
    assert (code, why in err) == (2, True), err


def test_stdin_is_read_where_the_file_is_a_hyphen(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Stdin(json.dumps(openai("a")).encode())))
    assert main(["submit", "-", "--dry-run"]) == 0
    assert "<stdin>" in capsys.readouterr().out


def test_more_than_the_provider_takes_is_refused(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from overnight.providers import provider_facts

    facts = provider_facts("openai")
    monkeypatch.setattr(type(facts), "limits", replace(facts.limits, max_entries=2))
    code, _, err = rehearse([openai(name) for name in "abc"])
    assert (code, "at most 2 entries" in err) == (2, True)


def test_a_task_that_has_a_field_of_that_name_keeps_it_as_custom_id_too(rehearse: Rehearse) -> None:
    options = ["--task", "command-named", "--provider", "openai", "--model", MODEL]
    assert rehearse([{"custom_id": "ada"}], *options)[0] == 0
    assert "custom_id 'ada' is on line 1" in rehearse([{"custom_id": "ada"}, {"custom_id": "ada"}], *options)[2]


def test_a_task_is_found_in_a_module_where_the_command_runs(
    rehearse: Rehearse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = (
        "from overnight import Task\nclass Found(Task[str], name='command-found'):\n    def prompt(self): return 'x'\n"
    )
    (tmp_path / "tasks_of_a_user.py").write_text(code)
    options = ["--task", "command-found", "--provider", "openai", "--model", MODEL]
    assert rehearse([{}], *options, "--import", "tasks_of_a_user")[0] == 0
    assert "Cannot import 'no_such'" in rehearse([{}], *options, "--import", "no_such")[2]


def test_a_missing_key_is_said_before_anything_is_read_further(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    code, _, err = rehearse([openai("a"), "{"])
    assert (code, "OPENAI_API_KEY" in err) == (2, True)


async def test_a_batch_that_temporal_may_have_heard_of_is_kept_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    async def submit() -> None:
        raise TemporalError("Temporal does not answer.")

    handle: Any = SimpleNamespace(id=BATCH.id, submit=submit)
    with pytest.raises(TemporalError):
        await _hand_over_or_discard(cast("Any", None), handle)
    assert f"Do not submit them anew: overnight submit --batch {BATCH.id}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [(["in.jsonl", "--key", ""], "A key is not empty"), (["--batch", "01a201c2", "--key", "a"], "made of a file")],
)
def test_a_key_is_not_empty_and_names_what_a_file_becomes(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *options]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["in.jsonl", "--batch", "01a201c2"]])
def test_it_takes_either_a_file_or_a_batch(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", *arguments]) == 2
    assert "either a file or --batch" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "nowhere.jsonl"]) == 2
    assert "Cannot read nowhere.jsonl: No such file" in capsys.readouterr().err
