"""What a further round asks: the same once more, or, where the answer did not fit, what the Task makes of it."""

import logging
from dataclasses import asdict, replace
from typing import Any

from pydantic_core import from_json

from overnight.batches import Outcome
from overnight.content import conversation
from overnight.errors import UnknownTaskError
from overnight.intake import Intake, request_json
from overnight.log_events import LogEvent
from overnight.providers.base import ProviderFacts
from overnight.storage.entries import NewEntry
from overnight.storage.filling import FurtherEntry
from overnight.storage.rounds import Candidate
from overnight.tasks import Task, tasks

logger = logging.getLogger(__name__)


class Repairer:
    """Makes further entries of one campaign: its provider, its model, its endpoint."""

    def __init__(self, facts: ProviderFacts, *, model: str, endpoint: str) -> None:
        self._facts, self._model, self._endpoint = facts, model, endpoint
        self._intake = Intake(facts, model=model, endpoint=endpoint)

    def further(self, candidate: Candidate) -> FurtherEntry | None:
        """The entry that asks again, or None where its Task cannot say how: its outcome stands then.

        Raises:
            UnknownTaskError: its class is not registered in this process, which another deployment mends.
        """
        if candidate.outcome is not Outcome.INVALID or candidate.task is None:
            return _linked(candidate, self._as_it_was(candidate))
        try:
            return _linked(candidate, self._repaired(candidate, tasks.resolve(candidate.task)))
        except UnknownTaskError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's `repair`, or what it makes cannot be asked
            logger.warning(
                "batch %s: entry %s cannot be asked again: %s",
                candidate.batch_id,
                candidate.custom_id,
                type(error).__name__,
                extra={"event": LogEvent.ENTRY_NOT_REPAIRED},
            )
            return None

    def _repaired(self, candidate: Candidate, cls: type[Task[Any]]) -> NewEntry:
        task = cls.load_fields(candidate.fields or "{}")
        line = (candidate.line or "").encode()
        answer = self._facts.read_response(line, endpoint=self._endpoint).text
        repaired = task.repair(candidate.reason, answer)
        if isinstance(repaired, Task):
            return self._intake.entry(repaired, candidate.custom_id)
        prompt = replace(task.render(), messages=conversation(repaired))
        body = self._facts.render(prompt, model=self._model, endpoint=self._endpoint)
        return replace(self._as_it_was(candidate), request=request_json(body))

    def _as_it_was(self, candidate: Candidate) -> NewEntry:
        return NewEntry(
            custom_id=candidate.custom_id,
            label="",
            task=candidate.task,
            fields=candidate.fields,
            request=candidate.request,
            inputs=self._facts.inputs(from_json(candidate.request), endpoint=self._endpoint),
        )


def _linked(candidate: Candidate, entry: NewEntry) -> FurtherEntry:
    return FurtherEntry(**asdict(entry), earlier_batch_id=candidate.batch_id, earlier_position=candidate.position)
