"""What a message holds besides text: images and files, by URL or as bytes."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator, model_validator

from overnight.errors import RequestError

_PDF = b"%PDF-"
_PDF_WITHIN = 1024
"""Readers look for the header of a PDF in so many bytes; some writers put a few before it."""


class _Attachment(BaseModel):
    """Either an address that the provider fetches, or the bytes themselves.

    It is a pydantic model so that it can be a field of a Task, and then come from a client in another language as
    well; bytes are base64 in JSON, and count so towards the batch's size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    data: bytes | None = None

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError("must begin with http:// or https:// and name a host; bytes go into `data`")
        return url

    @field_validator("data", mode="before")
    @classmethod
    def _decoded(cls, data: Any) -> Any:
        try:
            return base64.b64decode(data, validate=True) if isinstance(data, str) else data
        except (ValueError, binascii.Error):
            raise ValueError("is no base64 text") from None

    @field_serializer("data", when_used="json")
    def _encoded(self, data: bytes | None) -> str | None:
        return None if data is None else base64.b64encode(data).decode()

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.url is None) == (self.data is None):
            raise ValueError("give either `url` or `data`")
        if self.data is not None:
            self._check_kind()
        return self

    def _check_kind(self) -> None:
        raise NotImplementedError

    @property
    def base64(self) -> str:
        """The bytes as text; empty for a URL."""
        return base64.b64encode(self.data or b"").decode()


class Image(_Attachment):
    """An image in a user's message: PNG, JPEG, GIF or WebP, which is what every provider takes.

    `Image(url="https://...")` is fetched by the provider when the batch runs, `Image(data=...)` and
    `Image.from_path(...)` travel with the request.

    Attributes:
        detail: how closely OpenAI's models look, and so how many tokens they take; by default the model decides.
            Anthropic has no such choice: make the image smaller instead.
    """

    detail: Literal["low", "high", "auto"] | None = None

    @classmethod
    def from_path(cls, path: str | PathLike[str], *, detail: Literal["low", "high", "auto"] | None = None) -> Self:
        """Read an image.

        Raises:
            RequestError: it cannot be read.
        """
        return cls(data=_read(path), detail=detail)

    @property
    def media_type(self) -> str | None:
        """By the first bytes, because providers look there too and refuse what is called otherwise; None for a URL."""
        return None if self.data is None else _image_type(self.data)

    def _check_kind(self) -> None:
        if self.media_type is None:
            raise ValueError("the bytes are no PNG, JPEG, GIF or WebP image")


class File(_Attachment):
    """A PDF or a text file in a user's message.

    A file by URL has to be a PDF where the provider is Anthropic.

    Attributes:
        name: what the model is told it is called.
    """

    name: str | None = None

    @classmethod
    def from_path(cls, path: str | PathLike[str]) -> Self:
        """Read a file; it keeps its name.

        Raises:
            RequestError: it cannot be read.
        """
        return cls(data=_read(path), name=Path(path).name)

    @property
    def media_type(self) -> Literal["application/pdf", "text/plain"] | None:
        """By the bytes; None for a URL."""
        if self.data is None:
            return None
        return "application/pdf" if _PDF in self.data[:_PDF_WITHIN] else "text/plain"

    @property
    def text(self) -> str | None:
        """What a text file says; None for a PDF and for a URL."""
        return self.data.decode() if self.data is not None and self.media_type == "text/plain" else None

    def _check_kind(self) -> None:
        try:
            text = self.text
        except UnicodeDecodeError:
            raise ValueError("the bytes are neither a PDF nor UTF-8 text") from None
        if text is not None and (not text.strip() or "\0" in text):
            raise ValueError("the text is blank or has NUL characters")


Part = str | Image | File
"""A piece of a message."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation. Images and files belong into the user's."""

    role: Literal["user", "assistant"]
    content: str | Sequence[Part]

    @property
    def parts(self) -> Sequence[Part]:
        """The content, as pieces whether it is one text or several."""
        return (self.content,) if isinstance(self.content, str) else self.content


def conversation(asked: str | Sequence[Message | Part]) -> Sequence[Message]:
    """Whatever `Task.prompt` may return, as messages: one text, the parts of one message, or several messages.

    Raises:
        RequestError: parts and messages are mixed, or there is something else among them.
    """
    items = [asked] if isinstance(asked, str) else list(asked)
    messages = [item for item in items if isinstance(item, Message)]
    if messages and len(messages) == len(items):
        return messages
    parts = [item for item in items if isinstance(item, str | Image | File)]
    if len(parts) != len(items):
        odd = next((type(item).__name__ for item in items if not isinstance(item, str | Image | File)), "")
        raise RequestError(f"messages: a prompt is made of parts or of messages, not of both; {odd} does not fit in.")
    return [Message(role="user", content=asked if isinstance(asked, str) else parts)]


def _read(path: str | PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"{Path(path).name} cannot be read: {error.strerror or error}.") from None


def _image_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for beginning, kind in ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif")):
        if data.startswith(beginning):
            return f"image/{kind}"
    return None
