"""How to test code that stands on this library.

Without any server: `answer` gives the entry that comes of a Task and of what a model says to it, and `run_handler` runs
a handler over such entries. With all of it (Postgres, Temporal, a worker, the provider simulator), in ten lines: see
`overnight.testing.pytest`.
"""

from overnight.errors import MissingExtraError

try:
    from overnight.testing.answering import answer
    from overnight.testing.replies import calls_tool, cut_off, errored, refused, vector
    from overnight.testing.running import HandlerRun, run_handler
    from overnight.testing.simulator import SimulatedBatch, SimulatorControl
except ModuleNotFoundError as error:
    if (error.name or "").startswith("overnight"):
        raise
    raise MissingExtraError("`overnight.testing`", "embedded") from error

__all__ = [
    "HandlerRun",
    "SimulatedBatch",
    "SimulatorControl",
    "answer",
    "calls_tool",
    "cut_off",
    "errored",
    "refused",
    "run_handler",
    "vector",
]
