"""A process's log: what is on a line, and whose it is."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from overnight.errors import ConfigurationError
from overnight.logs import JsonFormatter, TextFormatter, concerning, log_to_stderr

BATCH = UUID("01a2028c-d309-779a-bf6f-ef8d495df2eb")


def record(message: str, *values: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.module", logging.INFO, "module.py", 7, message, values, None, "looks")
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    return json.loads(line)


def test_a_json_line_has_an_event_that_is_the_same_whatever_the_values() -> None:
    first, second = as_json(record("%s says %s", "openai", "ended")), as_json(record("%s says %s", "openai", "failed"))

    assert first["event"] == second["event"] == "some.module.looks"
    assert first["message"] == "openai says ended"
    assert "batch_id" not in first
    assert as_json(record("x", event="poll_answered"))["event"] == "poll_answered"


def test_what_is_logged_while_a_batch_is_in_hand_carries_its_id() -> None:
    with concerning(BATCH):
        line, text = as_json(record("any library's line")), TextFormatter("%(message)s").format(record("a line"))

    assert line["batch_id"] == str(BATCH)
    assert text == f"a line [batch {BATCH}]"
    assert "batch_id" not in as_json(record("afterwards"))


def test_a_text_line_that_names_its_batch_does_not_name_it_twice() -> None:
    with concerning(BATCH):
        text = TextFormatter("%(message)s").format(record("batch %s: adopted", BATCH))

    assert text == f"batch {BATCH}: adopted"


async def test_lines_within_an_activity_name_its_workflow() -> None:
    line: dict[str, Any] = {}

    async def act() -> None:
        line.update(as_json(record("a line")))

    await ActivityEnvironment().run(act)

    assert {"workflow_id", "activity", "attempt"} <= line.keys()


def test_temporals_own_lines_name_the_batch_by_its_workflow() -> None:
    line = as_json(record("failed", temporal_activity={"workflow_id": f"batch-{BATCH}", "attempt": 3}))
    foreign = as_json(record("failed", temporal_activity={"workflow_id": "batch-of-cookies"}))

    assert (line["batch_id"], line["attempt"]) == (str(BATCH), 3)
    assert "batch_id" not in foreign


def test_an_error_is_on_the_same_line() -> None:
    made = record("failed")
    try:
        int("seven")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)

    assert as_json(made)["error"] == "ValueError"


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERNIGHT_LOG_FORMAT", "xml")

    with pytest.raises(ConfigurationError, match="text and json"):
        log_to_stderr("INFO")
