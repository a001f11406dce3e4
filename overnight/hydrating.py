"""One response through its Task. Whatever is odd about it stays with its entry."""

from overnight.errors import ResponseError
from overnight.providers.base import ProviderFacts
from overnight.storage.outputs import StoredEntry, Verdict
from overnight.tasks import tasks
from overnight.texts import storable


def verdict_of(entry: StoredEntry, facts: ProviderFacts, endpoint: str) -> Verdict:
    """The output of a succeeded entry, or why it has none.

    Raises:
        UnknownTaskError: its class is not registered in this process. That is nobody's answer gone wrong but a
            deployment's mistake, and mended by another one, so it is not the entry's verdict.
    """
    assert entry.task is not None
    cls = tasks.resolve(entry.task)
    try:
        task = cls.load_fields(entry.fields or "{}")
        output = task.read(facts.read_response((entry.line or "").encode(), endpoint=endpoint))
        return Verdict(position=entry.position, output=cls.dump_output(output))
    except ResponseError as error:
        return Verdict(
            position=entry.position, error_code=storable(str(error.code))[:100], reason=storable(str(error))[:2000]
        )
    except Exception as error:  # noqa: BLE001 - the user's `read`, or a field that no longer validates
        return Verdict(position=entry.position, error_code="task_failed", reason=_told(error))


def _told(error: Exception) -> str:
    try:
        return storable(f"{type(error).__name__}: {error}")[:2000]
    except Exception:  # noqa: BLE001 - the error is the user's own, and so is its text
        return type(error).__name__
