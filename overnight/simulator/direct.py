"""The endpoints outside batches: the same answers, at once and at full price."""

import asyncio
from uuid import uuid4

from starlette.responses import Response

from overnight.simulator.answers import answer
from overnight.simulator.calls import Call, Handler, body_object
from overnight.simulator.errors import ApiError, json_response


def answering(endpoint: str) -> Handler:
    async def handle(call: Call) -> Response:
        body = await body_object(call)
        if body.get("stream"):
            raise ApiError("The simulator does not stream.", param="stream", code="unsupported_parameter")
        version = call.request.headers.get("anthropic-version", "")
        setting = call.simulator.setting(endpoint, version=version, created_at=call.simulator.now(), batch=False)
        rendered = await asyncio.to_thread(answer, setting, body, custom_id=None, token=uuid4().hex)
        if not rendered.ok and "request_id" in rendered.body:
            return json_response({**rendered.body, "request_id": call.request_id}, status=rendered.status)
        return json_response(rendered.body, status=rendered.status)

    return handle
