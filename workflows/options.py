"""Every timeout and retry policy, with its reason.

No policy gives up by itself: a batch that was paid for is waited for, however long the provider, Postgres or a
handler is ill. What ends a batch is its terminal status, or max age.
"""

from datetime import timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType

from overnight import contracts


class Options(TypedDict, total=False):
    """What an activity is started with, beyond its input and summary."""

    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType
    priority: Priority


# How long a worker may be silent before its work is given to another one. Workers beat every few seconds, so this is
# what a crash costs; a busy machine must still get a beat through.
_HEARTBEAT = timedelta(seconds=60)

# Steps that must succeed in the end. The cap is what a repaired key, database or handler waits at most.
_UNTIL_IT_WORKS = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=5)
)

# One small transaction; for a batch that has a `max_cost` and was not checked by our client, a look at all its entries.
OPEN = Options(start_to_close_timeout=timedelta(minutes=2), retry_policy=_UNTIL_IT_WORKS)

# The same for a campaign, whose entries nobody limits the number of.
OPEN_CAMPAIGN = Options(
    start_to_close_timeout=timedelta(hours=2), heartbeat_timeout=_HEARTBEAT, retry_policy=_UNTIL_IT_WORKS
)

# Up to 256 MB on the way up. An attempt that is canceled while it waits for its retry stops at once; one that runs is
# left to say how it ended, because it may just have created what must then be canceled.
SUBMIT = Options(
    start_to_close_timeout=timedelta(hours=2),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=_UNTIL_IT_WORKS,
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

# Batches that are in flight come before those that begin: however many are started at once, their first steps wait in
# the task queue and no poll behind them. (1 is the highest; what says nothing has 3.)
_FIRST = Priority(priority_key=1)

# One look. Whether and when to look again is the poll loop's to decide, where everybody can see it.
POLL = Options(
    start_to_close_timeout=timedelta(seconds=90), retry_policy=RetryPolicy(maximum_attempts=1), priority=_FIRST
)

# Asking for a cancel is safe to repeat, and somebody is waiting for it; after these tries the loop asks again later.
CANCEL = Options(
    start_to_close_timeout=timedelta(seconds=90),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=4),
    priority=_FIRST,
)

# Asks the provider as well, but only as a favour: its answer, or none, changes nothing here.
EXPIRE = Options(start_to_close_timeout=timedelta(seconds=90), retry_policy=_UNTIL_IT_WORKS)

# A hundred thousand lines and more; progress is committed, so a retry goes on where the last attempt stopped.
FINALIZE = Options(
    start_to_close_timeout=timedelta(hours=6), heartbeat_timeout=_HEARTBEAT, retry_policy=_UNTIL_IT_WORKS
)

# The user's code takes as long as it takes.
DISPATCH = Options(
    start_to_close_timeout=timedelta(hours=6),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=5), backoff_coefficient=2, maximum_interval=timedelta(minutes=30)
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

# An activity of the user's own, maybe without heartbeats, so that only this says that its worker has died; who knows
# better tells it with `retry_handler`, which therefore does not wait for the attempt that it replaces.
HANDLER_ACTIVITY = Options(
    start_to_close_timeout=timedelta(hours=1),
    retry_policy=DISPATCH["retry_policy"],
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)

# A handler that says itself that trying again is no use is tried again all the same, this much later: a deploy may have
# mended it, and the batch is not done without it.
HANDLER_PAUSE = timedelta(minutes=30)

# After so long without a worker on a task queue of the user's somebody is told; the step itself goes on waiting.
PATIENCE = timedelta(minutes=5)

# Telling is worth a few tries and no waiting workflow.
TELL = Options(start_to_close_timeout=timedelta(seconds=30), retry_policy=RetryPolicy(maximum_attempts=5))

# Tidiness is worth a few tries and no waiting workflow.
CLEAN_UP = Options(
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=10), maximum_attempts=5),
)

# After max age the provider gets this long to bring a canceled batch to its end, and is looked at this often.
GRACE = timedelta(minutes=15)
GRACE_WAIT = timedelta(minutes=1)

# A query or two; between looks, timers wait.
LOOK = Options(start_to_close_timeout=timedelta(seconds=90), retry_policy=_UNTIL_IT_WORKS)

# So often are a campaign's batches looked at, at the least. One that ends says so at once, but not over the border of
# a history, and not when its workflow was terminated.
LOOK_WAIT = timedelta(minutes=5)

# A batch that its campaign does not send again, because there is none any more, goes again by itself after this long.
ROOM_WAIT = timedelta(hours=2)

# Batches that one history starts: three events for each batch, and two dozen for what surrounds it.
BATCHES_PER_RUN = 200


def bulk_queue() -> str:
    """The task queue of steps that take the longer the larger the batch is, and of handlers: however many of them
    there are, and however long they take, no poll waits behind them.
    """
    return contracts.bulk_task_queue(workflow.info().task_queue)
