"""Keys: how code that is run again after a crash finds the batches and campaigns that it has created."""

from collections import Counter
from dataclasses import replace
from typing import TypeVar
from uuid import UUID, uuid4

from overnight.batches import Batch
from overnight.campaigns import Campaign
from overnight.errors import UsageError
from overnight.ids import keyed_id, numbered_id
from overnight.storage.batches import NewBatch
from overnight.storage.campaigns import NewCampaign

NewT = TypeVar("NewT", bound=NewBatch | NewCampaign)


class Keys:
    """The ids of what one client creates: fresh ones, or those that belong to their keys.

    Without a parent only what has a key has an id that can be found again. In the run of a handler everything has: the
    handler may be run again at any time, and must not pay twice.

    Args:
        parent: the batch or campaign whose handler creates.
    """

    def __init__(self, parent: Batch | Campaign | None) -> None:
        self._parent = parent
        self._numbers: Counter[str] = Counter()
        self._used: set[tuple[str, str]] = set()

    @property
    def handler_task_queue(self) -> str | None:
        """Where the handlers and Tasks of what is created here are: beside the handler that creates it."""
        return self._parent.handler_task_queue if self._parent else None

    def named(self, new: NewT, key: str | None) -> NewT:
        """The batch or campaign under the id that belongs to its key.

        Raises:
            UsageError: one run of a handler has used the key before: what the second one was to hold would get lost.
        """
        kept = self.id_of("campaign" if isinstance(new, NewCampaign) else "batch", key)
        if kept is None:
            return new
        parent_batch_id = None if self._parent is None or isinstance(self._parent, Campaign) else self._parent.id
        return replace(new, id=kept, parent_batch_id=parent_batch_id, filling_token=uuid4())

    def id_of(self, what: str, key: str | None) -> UUID | None:
        """The id that belongs to a key, or to the next number; None where neither counts, and a fresh one will do.

        Raises:
            UsageError: as for `named`.
        """
        if self._parent is None:
            return None if key is None else keyed_id(key, what=what)
        if key is None:
            self._numbers[what] += 1
            return numbered_id(self._numbers[what], parent=self._parent.id, what=what)
        if (what, key) in self._used:
            raise UsageError(
                f"This handler has created a {what} with the key {key!r} before. Give each {what} of a handler its own."
            )
        self._used.add((what, key))
        return keyed_id(key, parent=self._parent.id, what=what)
