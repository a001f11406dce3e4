"""One entry from question to rendered answer: read, refuse or ask, write in the provider's words."""

import fnmatch
import logging
from dataclasses import dataclass
from random import Random
from typing import Any

from overnight.simulator import anthropic_bodies, openai_bodies
from overnight.simulator.config import SimulatorConfig
from overnight.simulator.errors import ApiError, error_body
from overnight.simulator.models import ModelError, ModelReply, ModelRequest, Rendered, Responder
from overnight.simulator.questions import MESSAGES, read_request
from overnight.simulator.responders import ask

logger = logging.getLogger(__name__)

STATUSES = {"invalid_request": 400, "content_filter": 400, "rate_limit": 429, "server": 500}
OPENAI_STATUSES = STATUSES | {"overloaded": 503, "timeout": 504}
ANTHROPIC_STATUSES = STATUSES | {"overloaded": 529, "timeout": 504}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where an entry is answered: what does not change from one entry of a batch to the next."""

    config: SimulatorConfig
    responder: Responder
    endpoint: str
    created_at: float
    version: str = ""
    batch: bool = True
    """False outside batches: another service tier is billed."""

    @property
    def provider(self) -> str:
        return "anthropic" if self.endpoint == MESSAGES else "openai"


def answer(setting: Setting, body: Any, *, custom_id: str | None, token: str) -> Rendered:
    """`token` is what the ids inside the answer are made from."""
    try:
        return _answered(setting, body, custom_id, token)
    except ApiError as error:
        refused = error
    except Exception:
        # One odd entry must not stop the others; what is odd about it stands in the log.
        logger.exception("The simulator could not answer %s", custom_id, extra={"event": "simulator.answer.failed"})
        refused = ApiError("The request could not be understood.")
    return Rendered(status=refused.status, body=error_body(setting.provider, refused, f"req_{token[:24]}"))


def _answered(setting: Setting, body: Any, custom_id: str | None, token: str) -> Rendered:
    rng = Random(f"{setting.config.seed}:{custom_id}")
    request = read_request(setting.endpoint, body, custom_id=custom_id, rng=rng, version=setting.version)
    check_model(setting.config, request.provider, request.model)
    reply = ask(setting.responder, request)
    if reply.error:
        raise _refusal(reply.error, request)
    return _rendered(setting, request, reply, token)


def known_model(config: SimulatorConfig, provider: str, model: str) -> bool:
    patterns = config.openai_models if provider == "openai" else config.anthropic_models
    return any(fnmatch.fnmatchcase(model, pattern) for pattern in patterns)


def check_model(config: SimulatorConfig, provider: str, model: str) -> None:
    if known_model(config, provider, model):
        return
    if provider == "anthropic":
        raise ApiError(f"model: {model}", status=404)
    message = f"The model `{model}` does not exist or you do not have access to it."
    raise ApiError(message, status=404, code="model_not_found")


def _refusal(error: ModelError, request: ModelRequest) -> ApiError:
    statuses = OPENAI_STATUSES if request.provider == "openai" else ANTHROPIC_STATUSES
    status = statuses[error.kind] if error.status is None or request.provider == "anthropic" else error.status
    return ApiError(error.message, status=status, code="content_filter" if error.kind == "content_filter" else None)


def _rendered(setting: Setting, request: ModelRequest, reply: ModelReply, token: str) -> Rendered:
    if request.provider == "anthropic":
        return anthropic_bodies.message(request, reply, token, batch=setting.batch)
    return openai_bodies.render(request, reply, token, int(setting.created_at))
