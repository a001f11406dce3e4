"""The simulator as a process: how it starts, what survives its death, how it stops, what it holds in memory."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from overnight.simulator import (
    ModelReply,
    ModelRequest,
    NotLoopbackError,
    SimulatorConfig,
    StateInUseError,
    create_app,
    engine,
    run,
    running,
)
from overnight.simulator.__main__ import config_from, main, parser
from overnight.simulator.serve import is_loopback
from tests.conformance.bench import Simulate, anthropic_entry, jsonl, openai_entry

HEADERS = {"authorization": "Bearer test-key", "anthropic-version": "2023-06-01"}


class Process:
    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "overnight.simulator", "--validating", "10", "--in-progress", "100", *options]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.popen.stdout is not None
        self.line = self.popen.stdout.readline()
        found = re.search(r"OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+)/v1 ANTHROPIC_BASE_URL=\1$", self.line.strip())
        assert found, self.line
        self.http = httpx.Client(base_url=found[1], headers=HEADERS, timeout=60)

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.http.close()
        self.popen.send_signal(how)
        self.popen.communicate()
        return self.popen.returncode

    def upload(self, entries: list[Any]) -> str:
        files = {"file": ("b.jsonl", jsonl(entries)), "purpose": (None, "batch")}
        return str(self.http.post("/v1/files", files=files).json()["id"])

    def create(self, entries: list[Any]) -> Any:
        body = {"input_file_id": self.upload(entries), "endpoint": "/v1/responses", "completion_window": "24h"}
        return self.http.post("/v1/batches", json=body).json()["id"]

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    with contextlib.ExitStack() as stack:

        def launched(*options: str) -> Process:
            process = Process(*options)
            stack.callback(process.end)
            return process

        yield launched


def test_everything_survives_a_kill(start: Callable[..., Process], tmp_path: Path) -> None:
    first = start("--state-dir", str(tmp_path))
    batch = first.create([openai_entry(f"e-{n}") for n in range(50)])
    body = {"requests": [anthropic_entry("a")]}
    message_batch = first.http.post("/v1/messages/batches", json=body).json()["id"]
    first.http.post("/_simulator/advance", json={"seconds": 60})
    first.http.post("/_simulator/faults", json={"match": {"operation": "batches.list"}, "effect": {"kind": "html"}})
    first.http.put("/_simulator/answers", json={"custom_id": "a", "text": "Scripted before."})
    before = first.get(f"/v1/batches/{batch}")
    assert before["status"] == "in_progress"
    first.end(signal.SIGKILL)

    second = start("--state-dir", str(tmp_path))
    after = second.get(f"/v1/batches/{batch}")
    assert after["request_counts"]["completed"] >= before["request_counts"]["completed"] > 0
    assert second.http.get("/v1/batches").headers["content-type"].startswith("text/html")
    second.http.post("/_simulator/advance", json={"seconds": 100})
    done = second.get(f"/v1/batches/{batch}")
    lines = second.http.get(f"/v1/files/{done['output_file_id']}/content").content.splitlines()
    assert len(lines) == 50
    results = second.http.get(f"/v1/messages/batches/{message_batch}/results").json()
    assert results["result"]["message"]["content"][0]["text"] == "Scripted before."
    second.end(signal.SIGKILL)

    third = start("--state-dir", str(tmp_path))
    assert third.http.get(f"/v1/files/{done['output_file_id']}/content").content.splitlines() == lines


def test_a_kill_while_answers_are_written_costs_nothing_but_time(start: Callable[..., Process], tmp_path: Path) -> None:
    first = start("--state-dir", str(tmp_path), "--responder", "tests.conformance.slow_responder:Slow")
    batch = first.create([openai_entry(f"e-{n}") for n in range(20)])
    first.http.post("/_simulator/advance", json={"seconds": 200})
    with pytest.raises(httpx.ReadTimeout):
        first.http.get(f"/v1/batches/{batch}", timeout=0.3)
    while not list((tmp_path / "tmp").iterdir()):
        time.sleep(0.01)
    first.end(signal.SIGKILL)

    second = start("--state-dir", str(tmp_path))
    done = second.get(f"/v1/batches/{batch}")
    lines = second.http.get(f"/v1/files/{done['output_file_id']}/content").content.splitlines()
    assert (done["status"], len(lines)) == ("completed", 20)
    assert not list((tmp_path / "tmp").iterdir())


def test_other_calls_are_answered_while_answers_are_written(start: Callable[..., Process]) -> None:
    process = start("--responder", "tests.conformance.slow_responder:Slow")
    batch = process.create([openai_entry(f"e-{n}") for n in range(20)])
    process.http.post("/_simulator/advance", json={"seconds": 200})
    with pytest.raises(httpx.ReadTimeout):
        process.http.get(f"/v1/batches/{batch}", timeout=0.3)
    assert process.http.get("/v1/files", timeout=8).status_code == 200


def test_a_batch_whose_answers_take_long_is_shown_at_work_and_not_as_over(simulate: Simulate) -> None:
    release = threading.Event()

    def respond(_request: ModelRequest, /) -> ModelReply:
        release.wait(60)
        return ModelReply(text="At last.")

    bench = simulate(responder=respond)
    batch, message_batch = bench.openai_batch([openai_entry("a")]), bench.anthropic_batch([anthropic_entry("a")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PATIENCE", 0.05)
        bench.advance(1000)
        assert bench.openai.batches.retrieve(batch.id).status == "finalizing"
        assert bench.anthropic.messages.batches.retrieve(message_batch.id).processing_status == "in_progress"
        assert bench.http.get(f"/v1/messages/batches/{message_batch.id}/results").status_code == 404
    release.set()
    assert bench.openai.batches.retrieve(batch.id).status == "completed"
    assert bench.anthropic.messages.batches.retrieve(message_batch.id).processing_status == "ended"


def test_a_signal_stops_it_in_the_middle_of_its_work(start: Callable[..., Process]) -> None:
    process = start("--responder", "tests.conformance.slow_responder:Slow")
    batch = process.create([openai_entry(f"e-{n}") for n in range(500)])
    process.http.post("/_simulator/advance", json={"seconds": 200})
    with pytest.raises(httpx.ReadTimeout):
        process.http.get(f"/v1/batches/{batch}", timeout=0.3)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=60) in {0, -signal.SIGTERM}, "its work would have taken minutes"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_even_with_an_open_connection(start: Callable[..., Process], how: signal.Signals) -> None:
    process = start()
    process.get("/v1/batches")
    process.popen.send_signal(how)
    assert process.popen.wait(timeout=20) in {0, -how}
    assert process.popen.stderr is not None
    assert "Traceback" not in process.popen.stderr.read()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_large_body_is_not_held_in_memory(start: Callable[..., Process], provider: str) -> None:
    process = start()
    process.create([openai_entry("warm-up")])
    before = psutil.Process(process.popen.pid).memory_info().rss
    prompt = "night " * 2000
    if provider == "openai":
        content = process.http.post(
            "/v1/files", files={"file": ("b.jsonl", b"x" * 50_000_000), "purpose": (None, "batch")}
        )
        assert content.json()["bytes"] == 50_000_000
    else:
        body = json.dumps({"requests": [anthropic_entry(f"e-{n}", prompt=prompt) for n in range(4000)]}).encode()
        assert len(body) > 45_000_000
        assert process.http.post("/v1/messages/batches", content=body).status_code == 200
    peak = max(psutil.Process(process.popen.pid).memory_info().rss, peak_of(process.popen.pid))
    assert peak - before < 40_000_000


def peak_of(pid: int) -> int:
    """The high-water mark where the system keeps one; elsewhere what is left afterwards has to do."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def test_fault_script_and_speed_come_from_the_command_line(tmp_path: Path) -> None:
    script = tmp_path / "faults.json"
    script.write_text('[{"effect": {"kind": "answer_lost"}}]')
    config = config_from(parser().parse_args(["--faults", str(script), "--speed", "10", "--in-progress", "50"]))
    assert (config.stages.in_progress, config.stages.window) == (5, 86_400)
    assert [fault.effect.kind for fault in config.faults] == ["answer_lost"]


def test_scripted_faults_are_not_armed_again_by_a_restart(tmp_path: Path, start: Callable[..., Process]) -> None:
    script = tmp_path / "faults.json"
    script.write_text('[{"match": {"times": 1}, "effect": {"kind": "html"}}]')
    options = ("--state-dir", str(tmp_path / "state"), "--faults", str(script))
    first = start(*options)
    assert first.http.get("/v1/batches").status_code == 502
    first.end()
    assert start(*options).http.get("/v1/batches").status_code == 200


@pytest.mark.parametrize(
    "options", [["--responder", "nowhere:nothing"], ["--responder", "json"], ["--host", "0.0.0.0"]]
)
def test_a_start_that_cannot_work_is_refused_with_a_reason(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    assert "The simulator cannot start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--port", "99999"], "there are 0 to 65535"),
        (["--speed", "0"], "0 is no speed"),
        (["--speed", "nan"], "no speed"),
    ],
)
def test_an_option_that_makes_no_sense_is_said(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert why in capsys.readouterr().err


def test_only_loopback_is_listened_on_unless_it_is_meant() -> None:
    with pytest.raises(NotLoopbackError, match=r"192\.0\.2\.1"):
        run(SimulatorConfig(), host="192.0.2.1")
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.com")] == [True] * 3 + [
        False
    ] * 2


def test_two_simulators_do_not_share_a_state_folder(tmp_path: Path) -> None:
    with running(SimulatorConfig(state_dir=tmp_path)), pytest.raises(StateInUseError):
        create_app(SimulatorConfig(state_dir=tmp_path))


def test_a_temporary_state_is_gone_with_its_simulator(simulate: Simulate) -> None:
    with running() as where:
        assert httpx.get(f"{where.url}/_simulator/state").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{where.url}/_simulator/state")


@pytest.mark.parametrize(
    ("ranges", "asked", "status", "said"),
    [
        (False, "bytes=5-", 200, None),
        (True, "bytes=5-", 206, "bytes 5-{last}/{size}"),
        (True, "bytes={size}-", 416, "bytes */{size}"),
        (True, "bytes=5-6", 200, None),
        (True, "lines=1-", 200, None),
    ],
)
def test_a_download_begins_in_the_middle_only_where_the_simulator_is_told_so(
    simulate: Simulate, *, ranges: bool, asked: str, status: int, said: str | None
) -> None:
    bench = simulate(ranges=ranges)
    content = jsonl([openai_entry("a"), openai_entry("b")])
    file = bench.openai.files.create(file=("in.jsonl", content), purpose="batch")
    size = {"size": len(content), "last": len(content) - 1}
    answer = bench.http.get(f"/v1/files/{file.id}/content", headers={"range": asked.format(**size)})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, said and said.format(**size))
    assert answer.content == {200: content, 206: content[5:], 416: b""}[status]
