"""The provider simulator in the hands of a test: what it answers, what goes wrong, what it has seen."""

import fnmatch
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from overnight.batches import Outcome
from overnight.errors import ServerError, UsageError
from overnight.providers import provider_facts
from overnight.simulator.faults import (
    BatchEffect,
    DelayEffect,
    DropEffect,
    Effect,
    Fault,
    LineEffect,
    Match,
    StatusEffect,
)
from overnight.simulator.models import NO_VALUE, ModelReply, ModelRequest, Provider, Responder
from overnight.simulator.responders import ScriptedAnswer, ScriptedError, ScriptedToolCall, load_responder
from overnight.testing.replies import Answering, Reply, reply_of

_ANY_TOKEN = "?" * 8
_TIMEOUT = timedelta(seconds=30)
# What is asked for is on loopback, which no proxy can reach.
_open = build_opener(ProxyHandler({})).open


class Callables:
    """The simulator's responder as far as callables of the test answer; what it has none for, another one answers.

    It runs in the simulator's thread. What a callable raises becomes the entry's error there, and is kept here.
    """

    def __init__(self, behind: Responder | str | None = None) -> None:
        self._behind = load_responder(behind)
        self._calls: dict[tuple[str, Provider], Answering] = {}
        self.errors: list[Exception] = []

    def put(self, wire_id: str, provider: Provider, answering: Answering) -> None:
        """Answer these entries by a callable; the newest one that fits is asked."""
        self._calls.pop((wire_id, provider), None)
        self._calls[wire_id, provider] = answering

    def __call__(self, request: ModelRequest, /) -> ModelReply:
        found = (
            answering
            for (wire_id, provider), answering in reversed(self._calls.items())
            if provider == request.provider and fnmatch.fnmatchcase(str(request.custom_id), wire_id)
        )
        answering = next(found, None)
        if answering is None:
            return self._behind(request)
        try:
            return reply_of(answering(request))
        except Exception as error:
            self.errors.append(error)
            raise


@dataclass(frozen=True, kw_only=True)
class SimulatedBatch:
    """A batch as the simulated provider has it.

    Attributes:
        stage: the simulator's word: `validating`, `in_progress`, `finalizing`, `canceling`, `ended`, `canceled`,
            `expired` or `failed`.
        done: entries that are answered by now.
    """

    id: str
    provider: str
    stage: str
    total: int
    done: int


class SimulatorControl:
    """A running simulator, by its control endpoints.

    Custom ids are the test's own, and patterns with `*` may stand for many; how a provider decorates them on the wire
    is taken care of. What is scripted holds for batches that are created afterwards::

        simulator.answer("r-1", {"label": "good"})
        simulator.answer("r-2", refused("I will not."))
        simulator.answer("r-3", Outcome.MISSING)
        simulator.lose_answer("batches.create")

    It talks plain HTTP and does not wait for an event loop, so there is nothing to await.
    """

    def __init__(self, url: str, callables: Callables | None = None) -> None:
        self.url = url.rstrip("/")
        self._callables = callables

    @property
    def openai_base_url(self) -> str:
        """For OPENAI_BASE_URL."""
        return f"{self.url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """For ANTHROPIC_BASE_URL."""
        return self.url

    def answer(self, custom_id: str, reply: Reply) -> None:
        """Have entries answered like this; a later answer for the same id replaces an earlier one.

        Args:
            custom_id: of the entry, or a pattern.
            reply: as for `overnight.testing.answer`. Of the outcomes only `Outcome.MISSING` can happen to a single
                entry; batches as a whole are canceled, and expire. A callable runs in the simulator's thread.

        Raises:
            UsageError: another outcome; or a callable, and the simulator does not run in this process.
        """
        if reply is Outcome.MISSING:
            self.spoil_line(custom_id, "missing")
            return
        answers = [self._scripted(wire_id, provider, reply) for provider, wire_id in _on_the_wire(custom_id)]
        self._call("PUT", "answers", [each.model_dump(mode="json", exclude_unset=True) for each in answers])

    def _scripted(self, wire_id: str, provider: Provider, reply: Reply) -> ScriptedAnswer:
        if not callable(reply):
            return _scripted(wire_id, provider, reply_of(reply))
        if self._callables is None:
            raise UsageError(
                f"A callable cannot answer for the simulator at {self.url}, which is not in this process. "
                f"The fixture `overnight_simulator` runs one that is."
            )
        self._callables.put(wire_id, provider, reply)
        return ScriptedAnswer(custom_id=wire_id, provider=provider, ask_responder=True)

    def spoil_line(self, custom_id: str, how: Any) -> None:
        """Have something be wrong with the result lines of these entries.

        Args:
            custom_id: of the entry, or a pattern.
            how: `missing`, `duplicate`, `malformed`, ...: see `overnight.simulator.LineEffect`.
        """
        for provider, wire_id in _on_the_wire(custom_id):
            effect = LineEffect(how=how, custom_ids=(wire_id,), count=None)
            self.fault(effect, Match(provider=provider, operation="batches.create"))

    def fault(self, effect: Effect, match: Match | None = None) -> None:
        """Have something go wrong with calls, batches or lines: see `overnight.simulator.Fault`."""
        fault = Fault(match=match or Match(), effect=effect)
        self._call("POST", "faults", fault.model_dump(mode="json"))

    def lose_answer(self, operation: str = "batches.create", *, times: int = 1) -> None:
        """Do the work and close the connection without an answer."""
        self.fault(DropEffect(kind="answer_lost"), Match(operation=operation, times=times))

    def rate_limit(
        self, operation: str = "*", *, times: int | None = None, seconds: float | None = None, retry_after: float = 0.1
    ) -> None:
        """Answer 429, so many times or for so many seconds; with neither it has no end."""
        effect = StatusEffect(kind="status", status=429, retry_after=retry_after)
        self.fault(effect, Match(operation=operation, times=times, for_seconds=seconds))

    def delay(self, seconds: float, operation: str = "*", *, times: int | None = None) -> None:
        """Answer calls late."""
        self.fault(DelayEffect(seconds=seconds), Match(operation=operation, times=times))

    def expire(self, *, share: float = 0.5) -> None:
        """Let new batches expire with this share of their entries answered."""
        self.fault(BatchEffect(how="expire", share=share), Match(operation="batches.create"))

    def fail(self, code: str = "invalid_request", message: str = "The batch failed its checks.") -> None:
        """Let new batches fail as a whole, while they are validated. OpenAI alone does that."""
        self.fault(BatchEffect(how="fail", code=code, message=message), Match(operation="batches.create"))

    def advance(self, by: timedelta | float) -> None:
        """Move the simulator's clock on, by so many seconds if it is a number."""
        self._call("POST", "advance", {"seconds": by.total_seconds() if isinstance(by, timedelta) else by})

    def finish(self) -> None:
        """Let every batch that is there be over now, with all its entries answered."""
        for batch in self.batches():
            self._call("POST", f"batches/{batch.id}", {"finish": True})

    def batches(self) -> Sequence[SimulatedBatch]:
        """The batches that were created."""
        return [
            SimulatedBatch(**{key: batch[key] for key in ("id", "provider", "stage", "total", "done")})
            for batch in self._call("GET", "state")["batches"]
        ]

    def calls(self, operation: str = "*") -> int:
        """How often an operation was asked for, answered or not: `batches.create`, `files.upload`, `*`, ..."""
        calls = self._call("GET", "state")["calls"]
        return sum(call["count"] for call in calls if fnmatch.fnmatchcase(call["operation"], operation))

    def reset(self) -> None:
        """Forget everything: batches, answers, faults, calls, and the clock's jumps."""
        self._call("POST", "reset")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/_simulator/{path}", data=content, method=method)  # noqa: S310 - an address of ours
        try:
            with _open(request, timeout=_TIMEOUT.total_seconds()) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                raise UsageError(f"The simulator refuses {method} {path}: {error.read().decode()}") from None
        except URLError as error:
            raise ServerError(f"No simulator answers at {self.url}: {error.reason}. Is it running?") from None


def _on_the_wire(custom_id: str) -> Iterator[tuple[Provider, str]]:
    """What the entry is called at each of the providers, whichever its batch will go to."""
    for provider in get_args(Provider):
        yield provider, provider_facts(provider).wire_id(custom_id, _ANY_TOKEN)


def _scripted(wire_id: str, provider: Provider, reply: ModelReply) -> ScriptedAnswer:
    error = reply.error
    said: dict[str, Any] = {
        "text": reply.text,
        "tool_calls": [ScriptedToolCall(name=call.name, arguments=dict(call.arguments)) for call in reply.tool_calls],
        "refusal": reply.refusal,
        "error": error and ScriptedError(kind=error.kind, message=error.message, status=error.status),
        "embeddings": reply.embeddings,
        "cut_off": reply.cut_off,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
    }
    if reply.value is not NO_VALUE:
        said["value"] = reply.value  # None is one, so its absence is the only way to say that there is none
    return ScriptedAnswer(custom_id=wire_id, provider=provider, **said)
