"""Keys: how code that is run again after a crash finds the batches that it has created."""

from dataclasses import replace
from uuid import uuid4

from overnight.batches import Batch
from overnight.errors import UsageError
from overnight.ids import keyed_batch_id, numbered_batch_id
from overnight.storage.batches import NewBatch


class Keys:
    """The ids of the batches that one client creates: fresh ones, or those that belong to their keys.

    Without a parent only a batch with a key has an id that can be found again. In the run of a handler each has:
    the handler may be run again at any time, and must not pay twice.
    """

    def __init__(self, parent: Batch | None) -> None:
        self._parent = parent
        self._number = 0
        self._used: set[str] = set()

    @property
    def handler_task_queue(self) -> str | None:
        """Where the handlers and Tasks of what is created here are: beside the handler that creates it."""
        return self._parent.handler_task_queue if self._parent else None

    def check_campaigns(self) -> None:
        """Campaigns have no keys.

        Raises:
            UsageError: a handler creates one, and would create another one when it is run again.
        """
        if self._parent is not None:
            raise UsageError(
                "A handler cannot create a campaign, for it may be run again and would pay twice. Create a batch."
            )

    def named(self, new: NewBatch, key: str | None) -> NewBatch:
        """The batch under the id that belongs to its key.

        Raises:
            UsageError: one run of a handler has used the key before: what the second batch was to hold would get lost.
        """
        if self._parent is not None:
            return self._following(new, self._parent, key)
        return new if key is None else replace(new, id=keyed_batch_id(key), filling_token=uuid4())

    def _following(self, new: NewBatch, parent: Batch, key: str | None) -> NewBatch:
        if key is None:
            self._number += 1
            batch_id = numbered_batch_id(self._number, parent=parent.id)
        elif key in self._used:
            raise UsageError(
                f"This handler has created a batch with the key {key!r} before. Give each batch of a handler its own."
            )
        else:
            self._used.add(key)
            batch_id = keyed_batch_id(key, parent=parent.id)
        return replace(new, id=batch_id, parent_batch_id=parent.id, filling_token=uuid4())
