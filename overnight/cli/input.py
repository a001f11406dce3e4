"""What `overnight submit` and `overnight estimate` read: a file of raw requests, or of the fields of a Task."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from overnight.contracts import BatchOptions, SpecEntry, faults
from overnight.errors import ConfigurationError, EntryError, LineError, UsageError
from overnight.intake import Intake, Item
from overnight.providers import provider_facts
from overnight.registering import item_of
from overnight.registry import load_modules
from overnight.request_files import Source, blamed, filed_requests, json_lines, name_of
from overnight.storage.batches import NewBatch
from overnight.storage.entries import NewEntry
from overnight.tasks import tasks

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line's entry.

    Attributes:
        form: the provider whose form the line is in; None for the fields of a Task.
        model: what the line itself says.
        endpoint: what the line itself says.
    """

    number: int
    item: Item
    custom_id: str | None
    form: str | None = None
    model: Any = None
    endpoint: str | None = None


class InputFile:
    """A file that is read once, from its first line to its last."""

    def __init__(self, file: str, *, form: str | None = None, task: str | None = None) -> None:
        if form and task:
            raise ConfigurationError("--task is for files of fields, and --format for files of requests: give one.")
        self._source: Source = sys.stdin.buffer if file == STDIN else file
        lines = _interruptible(_task_lines(self._source, task) if task else _raw_lines(self._source, form))
        self.name = name_of(self._source)
        self.first = next(lines, None)
        if self.first is None:
            raise UsageError(f"{self.name} holds no requests: give it one JSON object per line.")
        self._lines = itertools.chain([self.first], lines)

    def chosen(self, *, provider: str | None, model: str | None, endpoint: str | None) -> dict[str, Any]:
        """Provider, model and endpoint: as the command says, else as the file does.

        Raises:
            UsageError: neither of them says it.
        """
        assert self.first is not None
        found = {
            "provider": provider or self.first.form,
            "model": model or self.first.model,
            "endpoint": endpoint or self.first.endpoint,
        }
        for option in ("provider", "model"):
            if not isinstance(found[option], str):
                raise UsageError(f"{self.name} does not say for which {option} it is. Give --{option}.")
        return found

    async def entries(self, batch: NewBatch) -> AsyncIterator[NewEntry]:
        """Checked and rendered for a batch, as they are asked for.

        Raises:
            LineError: a line cannot be taken.
        """
        intake = Intake(provider_facts(batch.provider), model=batch.model, endpoint=batch.endpoint)
        # The database would find a duplicate too, and could not say on which lines it is.
        numbers: dict[str, int] = {}
        for line in self._lines:
            with blamed(self._source, line.number):
                entry = intake.entry(line.item, line.custom_id)
            if (
                entry.custom_id is not None
                and (before := numbers.setdefault(entry.custom_id, line.number)) < line.number
            ):
                raise LineError(self.name, line.number, _duplicate(entry.custom_id, before))
            yield entry


def _interruptible(lines: Iterator[Line]) -> Iterator[Line]:
    """A read that waits for somebody to write must end at Ctrl-C, which the event loop would only make a note of."""
    while True:
        with _ctrl_c_raises():
            line = next(lines, None)
        if line is None:
            return
        yield line


@contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers, or has Ctrl-C
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _duplicate(custom_id: str, before: int) -> str:
    return f"custom_id {custom_id!r} is on line {before} already, and results are matched by it alone."


def _raw_lines(source: Source, form: str | None) -> Iterator[Line]:
    for filed in filed_requests(source, form=form):
        yield Line(
            number=filed.number,
            item=filed.request,
            custom_id=filed.request.custom_id,
            form=filed.form.name,
            model=filed.request.body.get("model"),
            endpoint=filed.request.endpoint,
        )


def _task_lines(source: Source, task: str) -> Iterator[Line]:
    is_field = "custom_id" in tasks.resolve(task).model_fields
    for line in json_lines(source):
        fields = dict(line.value)
        custom_id = fields.get("custom_id") if is_field else fields.pop("custom_id", None)
        with blamed(source, line.number):
            if custom_id is not None and not isinstance(custom_id, str):
                raise EntryError("custom_id: write it as a text.")
            item = item_of(SpecEntry.model_construct(task=task, fields=fields, custom_id=custom_id), line.number)
        yield Line(number=line.number, item=item, custom_id=custom_id)


def load_users_modules(names: Sequence[str]) -> None:
    """Import the user's modules, which are looked for where the command runs, as a worker does.

    Raises:
        ConfigurationError: one does not import.
    """
    if names:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
        load_modules(names)


def options_of(chosen: dict[str, Any], given: dict[str, Any]) -> BatchOptions:
    """What is chosen once for the whole batch; options that were not given keep their defaults.

    Raises:
        UsageError: one makes no sense.
    """
    try:
        return BatchOptions(**chosen, **{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise UsageError(f"A batch cannot be created like this: {faults(error)}.") from None
