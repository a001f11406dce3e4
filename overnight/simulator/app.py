"""The ASGI application: both providers' paths under one host, and the control endpoints beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from overnight.simulator import anthropic_batches, openai_batches, openai_files
from overnight.simulator.calls import Handler, Operation
from overnight.simulator.config import SimulatorConfig
from overnight.simulator.control import Control
from overnight.simulator.direct import answering
from overnight.simulator.engine import Simulator
from overnight.simulator.errors import ApiError, error_body, json_response
from overnight.simulator.models import Provider
from overnight.simulator.questions import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

Row = tuple[str, str, str, Handler]

OPENAI: tuple[Row, ...] = (
    ("POST", "/v1/files", "files.upload", openai_files.upload),
    ("GET", "/v1/files", "files.list", openai_files.list_files),
    ("GET", "/v1/files/{file_id}", "files.retrieve", openai_files.retrieve),
    ("DELETE", "/v1/files/{file_id}", "files.delete", openai_files.delete),
    ("GET", "/v1/files/{file_id}/content", "files.content", openai_files.content),
    ("POST", "/v1/batches", "batches.create", openai_batches.create),
    ("GET", "/v1/batches", "batches.list", openai_batches.list_batches),
    ("GET", "/v1/batches/{batch_id}", "batches.retrieve", openai_batches.retrieve),
    ("POST", "/v1/batches/{batch_id}/cancel", "batches.cancel", openai_batches.cancel),
    ("POST", CHAT, "chat.completions.create", answering(CHAT)),
    ("POST", RESPONSES, "responses.create", answering(RESPONSES)),
    ("POST", EMBEDDINGS, "embeddings.create", answering(EMBEDDINGS)),
)
ANTHROPIC: tuple[Row, ...] = (
    ("POST", "/v1/messages/batches", "batches.create", anthropic_batches.create),
    ("GET", "/v1/messages/batches", "batches.list", anthropic_batches.list_batches),
    ("GET", "/v1/messages/batches/{batch_id}", "batches.retrieve", anthropic_batches.retrieve),
    ("DELETE", "/v1/messages/batches/{batch_id}", "batches.delete", anthropic_batches.delete),
    ("POST", "/v1/messages/batches/{batch_id}/cancel", "batches.cancel", anthropic_batches.cancel),
    ("GET", "/v1/messages/batches/{batch_id}/results", "batches.results", anthropic_batches.results),
    ("POST", MESSAGES, "messages.create", answering(MESSAGES)),
)


def create_app(config: SimulatorConfig) -> Starlette:
    """The simulator as an ASGI application. It owns its state folder from here until its lifespan ends."""
    simulator = Simulator(config)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await simulator.close()

    routes = [*_routes(simulator, "openai", OPENAI), *_routes(simulator, "anthropic", ANTHROPIC)]
    routes += Control(simulator).routes()
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_such_path})
    app.state.simulator = simulator
    return app


def _routes(simulator: Simulator, provider: Provider, rows: tuple[Row, ...]) -> list[Route]:
    return [
        Route(path, Operation(simulator, provider, name, handler), methods=[method], name=f"{provider}.{name}")
        for method, path, name, handler in rows
    ]


async def _no_such_path(request: Request, error: Exception) -> Response:
    """A wrong path or method, in the words of whoever it was meant for."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if request.url.path.startswith("/v1/messages"):
        refusal = ApiError("Not Found" if status == 404 else "Method Not Allowed", status=status)
        return json_response(error_body("anthropic", refusal, None), status=status)
    refusal = ApiError(f"Invalid URL ({request.method} {request.url.path})", status=status)
    return json_response(error_body("openai", refusal, None), status=status)
