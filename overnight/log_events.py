"""The names of our log lines: what is searched for and counted, whatever words and values a line has.

A name stays when the words of its message change. Lines of libraries have the name of their logger instead.
`docs/operations/logs.md` says what each one means.
"""

from enum import StrEnum


class LogEvent(StrEnum):
    """One name for all lines that say the same."""

    WORKER_READY = "worker.ready"
    WORKER_STOPPING = "worker.stopping"

    BATCH_SUBMITTED = "batch.submitted"
    BATCH_ADOPTED = "batch.adopted"
    BATCH_POLLED = "batch.polled"
    BATCH_INGESTED = "batch.ingested"
    BATCH_HYDRATED = "batch.hydrated"
    BATCH_CANCEL_REFUSED = "batch.cancel_refused"
    ROUND_SKIPPED = "round.skipped"
    HANDLER_RAN = "handler.ran"
    HANDLER_ALREADY_RAN = "handler.already_ran"

    STEP_FAILED = "step.failed"
    STEP_ERROR_KEPT = "step.error_kept"
    NOTICE_WAITING = "notice.waiting"
    NOTICE_ATTENTION = "notice.attention"
    NOTICE_RECOVERED = "notice.recovered"
    NOTICE_ORPHAN = "notice.orphan"
    NOTICE_ABOVE_QUOTA = "notice.above_quota"
    NOTIFIER_FAILED = "notifier.failed"

    PROVIDER_BATCH_UNOWNED = "provider_batch.unowned"
    SUBMISSION_IN_DOUBT = "submission.in_doubt"
    ORPHANS_POSTPONED = "orphans.postponed"
    STATUS_UNKNOWN = "status.unknown"
    RESULTS_LOST = "results.lost"
    RESULT_LINE_CUT = "result_line.cut"
    ARGUMENTS_UNREADABLE = "arguments.unreadable"
    ENTRY_NOT_REPAIRED = "entry.not_repaired"

    SCHEMA_UPGRADED = "schema.upgraded"
    GAUGES_UNREAD = "gauges.unread"
    SEARCH_ATTRIBUTES_LEFT_OUT = "search_attributes.left_out"

    SERVER_STARTED = "server.started"
    PROCESS_STARTED = "process.started"
    PROCESS_KILLED = "process.killed"
    PROCESS_FAILED = "process.failed"
