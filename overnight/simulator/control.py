"""What only a simulator has, under `/_simulator/`: looking inside, moving the clock, scripting faults and answers.

    GET    state                  batches, files, calls by operation, client and status, creates by client
    POST   advance                {"seconds": 3600}: the clock jumps, everything ages
    POST   batches/{id}           {"finish": true} and/or {"effects": [...]}: batch and line effects, pinned now
    GET    faults                 the script, with how often each fault was seen and met
    POST   faults                 one fault, or a list
    DELETE faults, faults/{n}     all, or one
    GET    answers                the scripted answers
    PUT    answers                one scripted answer, or a list (POST does the same)
    DELETE answers
    POST   reset                  forget everything but the configuration

No key is asked for here: the listener is on loopback, and what lies behind it is made up.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from overnight.simulator.engine import Simulator
from overnight.simulator.errors import json_response
from overnight.simulator.faults import FAULTS, Fault, PinnedEffect
from overnight.simulator.lifecycle import state
from overnight.simulator.records import BatchRecord
from overnight.simulator.responders import ScriptedAnswer

ANSWERS: TypeAdapter[tuple[ScriptedAnswer, ...]] = TypeAdapter(tuple[ScriptedAnswer, ...])


class Advance(BaseModel):
    model_config = ConfigDict(extra="forbid")
    seconds: float = Field(ge=0)


class BatchChange(BaseModel):
    """`finish` ends the batch now, with everything finished; `effects` are pinned as if scripted before create."""

    model_config = ConfigDict(extra="forbid")
    finish: bool = False
    effects: tuple[PinnedEffect, ...] = ()


class Control:
    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.store = simulator.store

    def routes(self) -> list[Route]:
        return [
            Route("/_simulator/state", _guarded(self.state), methods=["GET"]),
            Route("/_simulator/advance", _guarded(self.advance), methods=["POST"]),
            Route("/_simulator/batches/{batch_id}", _guarded(self.change_batch), methods=["POST"]),
            Route("/_simulator/faults", _guarded(self.list_faults), methods=["GET"]),
            Route("/_simulator/faults", _guarded(self.add_faults), methods=["POST"]),
            Route("/_simulator/faults", _guarded(self.delete_faults), methods=["DELETE"]),
            Route("/_simulator/faults/{fault_id:int}", _guarded(self.delete_faults), methods=["DELETE"]),
            Route("/_simulator/answers", _guarded(self.list_answers), methods=["GET"]),
            Route("/_simulator/answers", _guarded(self.put_answers), methods=["PUT", "POST"]),
            Route("/_simulator/answers", _guarded(self.delete_answers), methods=["DELETE"]),
            Route("/_simulator/reset", _guarded(self.reset), methods=["POST"]),
        ]

    async def state(self, _request: Request) -> Any:
        calls = self.store.calls()
        creates: Counter[str] = Counter()
        for call in calls:
            if call.operation == "batches.create":
                creates[call.client] += call.count
        openai, anthropic = self.store.batches("openai"), self.store.batches("anthropic")
        return {
            "now": self.store.now(),
            "seed": self.simulator.config.seed,
            "batches": [self._overview(batch) for batch in (*openai, *anthropic)],
            "batch_counts": {"openai": len(openai), "anthropic": len(anthropic)},
            "files": [record.model_dump() for record in self.store.files()],
            "creates_by_client": dict(creates),
            "calls": [call.model_dump() for call in calls],
        }

    def _overview(self, batch: BatchRecord) -> dict[str, Any]:
        seen = state(batch, self.store.now())
        return {**batch.model_dump(mode="json"), "stage": seen.stage, "done": seen.done}

    async def advance(self, request: Request) -> Any:
        self.store.advance(Advance.model_validate_json(await request.body()).seconds)
        return {"now": self.store.now()}

    async def change_batch(self, request: Request) -> Any:
        batch_id = request.path_params["batch_id"]
        batch = self.store.batch(batch_id, "openai") or self.store.batch(batch_id, "anthropic")
        if batch is None:
            raise LookupError(f"There is no batch {batch_id}.")
        change = BatchChange.model_validate_json(await request.body())
        changes: dict[str, Any] = {"effects": (*batch.effects, *change.effects)}
        if change.finish:
            changes["finish_at"] = self.store.now()
        return self._overview(self.store.change_batch(batch, **changes))

    async def list_faults(self, _request: Request) -> Any:
        return {"faults": [live.model_dump(mode="json") for live in self.store.faults()]}

    async def add_faults(self, request: Request) -> Any:
        """One fault, or a list of them."""
        body = await request.body()
        many = body.lstrip().startswith(b"[")
        faults = FAULTS.validate_json(body) if many else (Fault.model_validate_json(body),)
        return {"faults": [live.model_dump(mode="json") for live in self.store.add_faults(faults)]}

    async def delete_faults(self, request: Request) -> Any:
        return {"deleted": self.store.delete_faults(request.path_params.get("fault_id"))}

    async def list_answers(self, _request: Request) -> Any:
        return {"answers": [a.model_dump(mode="json", exclude_unset=True) for a in self.store.answers()]}

    async def put_answers(self, request: Request) -> Any:
        body = await request.body()
        many = body.lstrip().startswith(b"[")
        answers = ANSWERS.validate_json(body) if many else (ScriptedAnswer.model_validate_json(body),)
        self.store.put_answers(answers)
        return {"answers": len(answers)}

    async def delete_answers(self, _request: Request) -> Any:
        self.store.delete_answers()
        return {"answers": 0}

    async def reset(self, _request: Request) -> Any:
        """Forget every object, count, answer and fault; the configuration's own faults come back."""
        self.store.reset()
        self.simulator.born()
        return {}


def _guarded(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            return json_response(await handler(request))
        except ValidationError as error:
            return json_response({"error": error.errors(include_url=False, include_context=False)}, status=422)
        except LookupError as error:
            return json_response({"error": str(error)}, status=404)

    return handle
