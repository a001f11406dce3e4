"""A provider of one process: answers are functions, and every request is kept."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from overnight.providers.anthropic import Anthropic
from overnight.providers.base import EntryLine, EntryLines, Submission
from overnight.providers.openai import OpenAI

TOKEN = "ab12cd34"
STARTED_AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = "sk-test-very-secret-0123456789"


class FakeProvider:
    """Answers in turn, or one function for all; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[Any] = []

    def then(self, *answers: Any) -> None:
        self.answers.extend(answers)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await request.aread()
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def openai(fake: FakeProvider) -> AsyncIterator[OpenAI]:
    adapter = OpenAI(api_key=KEY, base_url="http://fake/v1", transport=httpx.MockTransport(fake.handle))
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def anthropic(fake: FakeProvider) -> AsyncIterator[Anthropic]:
    adapter = Anthropic(api_key=KEY, base_url="http://fake", transport=httpx.MockTransport(fake.handle))
    yield adapter
    await adapter.aclose()


def pages(*entries: EntryLine, size: int = 2) -> EntryLines:
    async def start() -> AsyncIterator[Sequence[EntryLine]]:
        for index in range(0, len(entries), size):
            yield entries[index : index + size]

    return start


@pytest.fixture
def entries() -> list[EntryLine]:
    texts = ["plain", "two\u2028lines", "zażółć 🦉", 'quoted "x"\n', ""]
    return [
        EntryLine(custom_id=f"e-{i}", request=json.dumps({"text": text}, ensure_ascii=False))
        for i, text in enumerate(texts)
    ]


@pytest.fixture
def start_pages() -> Callable[..., EntryLines]:
    return pages


@pytest.fixture
def submission(entries: list[EntryLine]) -> Callable[..., Submission]:
    def make(**changes: Any) -> Submission:
        facts: dict[str, Any] = {
            "batch_id": UUID(int=7),
            "token": TOKEN,
            "model": "m",
            "endpoint": "/v1/responses",
            "entry_count": len(entries),
            "request_bytes": sum(len(e.custom_id.encode()) + len(e.request.encode()) for e in entries),
            "started_at": STARTED_AT,
        }
        return Submission(**(facts | changes))

    return make
