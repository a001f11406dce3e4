"""Bodies that are too large to hold: counted and written to disk as they arrive."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from overnight.simulator.errors import ApiError

FORM_OVERHEAD = 64 * 1024
"""What a multipart form adds to its file: boundaries, headers and small fields."""


def refuse_declared(request: Request, most: int, refusal: ApiError) -> None:
    """An honest Content-Length is refused before its body; a chunked body has none."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise refusal


async def limited(request: Request, most: int, refusal: ApiError) -> AsyncGenerator[bytes]:
    """The body by chunks. Raises the refusal once there is too much, and when it does not arrive in full."""
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > most:
                raise refusal
            yield chunk
    except ClientDisconnect as error:
        raise ApiError("The request body did not arrive in full.") from error


async def spool(request: Request, target: Path, most: int, refusal: ApiError) -> None:
    refuse_declared(request, most, refusal)
    async with await anyio.open_file(target, "wb") as sink:
        async for chunk in limited(request, most, refusal):
            await sink.write(chunk)


@asynccontextmanager
async def read_form(request: Request, most: int, refusal: ApiError) -> AsyncIterator[dict[str, Any]]:
    """The form's fields, as long as the block lasts; a file is on disk once it is larger than a megabyte."""
    if "multipart/form-data" not in request.headers.get("content-type", ""):
        raise ApiError("Invalid Content-Type header. Expected multipart/form-data.")
    refuse_declared(request, most + FORM_OVERHEAD, refusal)
    form = await _parsed(request, limited(request, most + FORM_OVERHEAD, refusal))
    try:
        yield dict(form)
    finally:
        await form.close()


class _CutShortError(MultiPartException):
    """Carries our own error through the parser, which closes its files for no other kind."""

    def __init__(self, reason: ApiError) -> None:
        super().__init__(reason.message)
        self.reason = reason


async def _parsed(request: Request, chunks: AsyncGenerator[bytes]) -> FormData:
    async def told() -> AsyncGenerator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except ApiError as error:
            raise _CutShortError(error) from error

    try:
        return await MultiPartParser(request.headers, told()).parse()
    except _CutShortError as error:
        raise error.reason from error
    except (MultiPartException, KeyError) as error:
        raise ApiError("Could not parse multipart form.") from error


def file_of(form: dict[str, Any]) -> UploadFile:
    found = form.get("file")
    if not isinstance(found, UploadFile):
        raise ApiError("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    return found
