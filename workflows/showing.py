"""What Temporal shows of one batch: current details for who looks at it, search attributes for who looks for it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from overnight.attributes import attributes
    from overnight.contracts import OpenBatch, Trouble
    from workflows import texts
    from workflows.texts import View


class Showing:
    """Writes what has changed, and remembers what keeps the batch from going on.

    Details cost nothing. Search attributes cost an event each time, so they are written when one of them is another.
    """

    def __init__(self, trouble: Trouble | None) -> None:
        self.trouble = trouble
        self._written: list[object] = []

    def opened(self, batch: OpenBatch) -> None:
        """Take over the trouble of an earlier workflow; its text went with that workflow."""
        if batch.trouble_code and not self.trouble:
            text = f"{batch.trouble_code}, from before this workflow began."
            self.trouble = Trouble(batch_id=batch.batch_id, code=batch.trouble_code, text=text)

    def show(self, view: View) -> None:
        """Bring both up to date."""
        workflow.set_current_details(texts.details(view))
        if view.batch.is_searchable:
            self._index(view)

    def _index(self, view: View) -> None:
        batch = view.batch
        wanted = attributes(
            provider=batch.provider,
            model=batch.model,
            status=view.report.status.value,
            handler=batch.handler_activity or batch.handler,
            needs_attention=self.trouble is not None and self.trouble.needs_attention,
        ).search_attributes
        changed = [pair for pair in wanted if pair not in self._written]
        if changed:
            workflow.upsert_search_attributes([pair.key.value_set(pair.value) for pair in changed])
        self._written = list(wanted)
