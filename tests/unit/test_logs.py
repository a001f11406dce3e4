"""A process's log: what is on a line, and whose it is."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from overnight.errors import ConfigurationError
from overnight.log_events import LogEvent
from overnight.logs import JsonFormatter, TextFormatter, concerning, log_to_stderr

BATCH = UUID("01a2028c-d309-779a-bf6f-ef8d495df2eb")
CAMPAIGN = UUID("01a2028c-d309-7000-8000-ef8d495df2eb")


def record(message: str, *values: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.module", logging.INFO, "module.py", 7, message, values, None, "looks")
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_has_the_name_that_it_was_given_and_a_librarys_line_that_of_its_logger() -> None:
    made = record("%s says %s", "openai", "ended", event=LogEvent.BATCH_POLLED)
    line, foreign = as_json(made), record("a library's line")

    assert (line["event"], line["message"]) == ("batch.polled", "openai says ended")
    assert "batch_id" not in line
    assert as_json(foreign)["event"] == "some.module"
    named = TextFormatter("%(levelname)s %(event)s: %(message)s")
    assert named.format(made) == "INFO batch.polled: openai says ended"
    assert named.format(foreign) == "INFO some.module: a library's line"


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


def test_a_campaigns_lines_carry_its_id_and_what_a_line_names_itself_goes_first() -> None:
    with concerning(campaign_id=CAMPAIGN):
        line, text = as_json(record("a line")), TextFormatter("%(message)s").format(record("a line"))
        of_batch = as_json(record("a line", batch_id=BATCH, campaign_id=None))

    assert line["campaign_id"] == str(CAMPAIGN)
    assert text == f"a line [campaign {CAMPAIGN}]"
    assert of_batch["batch_id"] == str(BATCH)
    assert "campaign_id" not in of_batch
    assert as_json(record("failed", temporal_workflow={"workflow_id": f"campaign-{CAMPAIGN}"}))["campaign_id"]


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
