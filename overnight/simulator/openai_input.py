"""OpenAI's validation of a batch's input file: what turns a batch `failed` before any request runs.

The codes are the ones that users report; the service publishes no list.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overnight.simulator.answers import known_model
from overnight.simulator.config import SimulatorConfig
from overnight.simulator.jsontext import parse
from overnight.simulator.questions import EMBEDDINGS, embedding_inputs
from overnight.simulator.records import BatchErrorRecord
from overnight.simulator.tokens import BYTES_PER_TOKEN

MOST_ERRORS = 100


@dataclass(kw_only=True)
class Scan:
    """What one pass over an input file found. The requests themselves are never held."""

    total: int = 0
    model: str | None = None
    tokens: int = 0
    inputs: int = 0
    errors: list[BatchErrorRecord] = field(default_factory=list)
    seen: set[str] = field(default_factory=set, repr=False)

    def refuse(self, code: str, message: str, *, param: str | None = None, line: int | None = None) -> None:
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(BatchErrorRecord(code=code, message=message, param=param, line=line))


class _LineError(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def scan_input(path: Path, endpoint: str, config: SimulatorConfig) -> Scan:
    """Reads the whole file once. Runs in a worker thread."""
    scan = Scan()
    for number, raw in _lines(path):
        scan.total += 1
        try:
            _check_line(scan, _object(raw), endpoint, config)
        except _LineError as error:
            scan.refuse(error.code, error.message, param=error.param, line=number)
    _check_whole(scan, config)
    scan.seen.clear()
    return scan


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if raw.strip():
                yield number, raw


def _object(raw: bytes) -> dict[str, Any]:
    try:
        entry = parse(raw)
    except ValueError as error:
        raise _LineError("invalid_json_line", "This line is not parseable as valid JSON.") from error
    if not isinstance(entry, dict):
        raise _LineError("invalid_json_line", "This line is not a JSON object.")
    return entry


def _check_line(scan: Scan, entry: dict[str, Any], endpoint: str, config: SimulatorConfig) -> None:
    for name in ("custom_id", "method", "url", "body"):
        if entry.get(name) is None or entry[name] == "":
            raise _missing(name)
    _check_id(scan, entry["custom_id"])
    if entry["method"] != "POST":
        raise _LineError("invalid_method", "The method of every request must be POST.", "method")
    if entry["url"] != endpoint:
        message = f"The URL provided for this request does not match the batch endpoint. Expected {endpoint}."
        raise _LineError("url_mismatch", message, "url")
    if not isinstance(entry["body"], dict):
        raise _LineError("invalid_request", "The body of a request must be a JSON object.", "body")
    _check_body(scan, entry["body"], endpoint, config)


def _missing(name: str) -> _LineError:
    return _LineError("missing_required_parameter", f"Missing required parameter: '{name}'.", name)


def _check_id(scan: Scan, custom_id: Any) -> None:
    if not isinstance(custom_id, str):
        raise _LineError("invalid_type", "Invalid type for 'custom_id': expected a string.", "custom_id")
    if custom_id in scan.seen:
        message = f"The custom_id '{custom_id}' for this request is a duplicate of another request."
        raise _LineError("duplicate_custom_id", message, "custom_id")
    scan.seen.add(custom_id)


def _check_body(scan: Scan, body: dict[str, Any], endpoint: str, config: SimulatorConfig) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _missing("body.model")
    if not known_model(config, "openai", model):
        message = f"The provided model '{model}' is not supported by the Batch API."
        raise _LineError("model_not_found", message, "body.model")
    if scan.model not in {None, model}:
        message = f"All requests in a batch must use one model: expected '{scan.model}', found '{model}'."
        raise _LineError("model_mismatch", message, "body.model")
    scan.model = model
    scan.tokens += len(str(body.get("messages") or body.get("input") or "")) // BYTES_PER_TOKEN
    scan.inputs += len(embedding_inputs(body.get("input"))) if endpoint == EMBEDDINGS else 0


def _check_whole(scan: Scan, config: SimulatorConfig) -> None:
    limits = config.limits
    if not scan.total:
        scan.refuse(
            "empty_file", "The input file is empty. Please ensure that the batch contains at least one request."
        )
    if scan.total > limits.openai_requests:
        message = f"This batch contains {scan.total} requests, which exceeds the limit of {limits.openai_requests}."
        scan.refuse("too_many_tasks", message)
    if scan.inputs > limits.openai_embedding_inputs:
        message = (
            f"This batch embeds {scan.inputs} inputs, which exceeds the limit of {limits.openai_embedding_inputs}."
        )
        scan.refuse("too_many_tasks", message)
