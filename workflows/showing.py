"""What Temporal shows of a batch or a campaign: current details for who looks at it, search attributes for who looks
for it.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from overnight.attributes import attributes
    from overnight.batches import BatchStatus
    from overnight.contracts import Handled, Trouble


class Showing:
    """Writes what has changed, and remembers what keeps the batch or campaign from going on.

    Details cost nothing. Search attributes cost an event each time, so they are written when one of them is another.
    """

    def __init__(self, trouble: Trouble | None) -> None:
        self.trouble = trouble
        self.results_lost = False
        """No step fails for that, and still somebody must act: it stays shown when all is over."""
        self._written: list[object] = []

    @property
    def needs_attention(self) -> bool:
        """Whether somebody must mend something."""
        return self.results_lost or (self.trouble is not None and self.trouble.needs_attention)

    def opened(self, handled: Handled) -> None:
        """Take over the trouble of an earlier workflow; its text went with that workflow."""
        if handled.trouble_code and not self.trouble:
            text = f"{handled.trouble_code}, from before this workflow began."
            self.trouble = Trouble(**handled.subject, code=handled.trouble_code, text=text)

    def show(self, handled: Handled, status: BatchStatus, details: str) -> None:
        """Bring both up to date."""
        workflow.set_current_details(details)
        if handled.is_searchable:
            self._index(handled, status)

    def _index(self, handled: Handled, status: BatchStatus) -> None:
        wanted = attributes(
            provider=handled.provider,
            model=handled.model,
            status=status.value,
            handler=handled.handler_activity or handled.handler,
            needs_attention=self.needs_attention,
        ).search_attributes
        changed = [pair for pair in wanted if pair not in self._written]
        if changed:
            workflow.upsert_search_attributes([pair.key.value_set(pair.value) for pair in changed])
        self._written = list(wanted)
