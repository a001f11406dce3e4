"""Seeded strings for the `format` words of JSON Schema that pydantic emits."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Final
from uuid import UUID

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _moment(rng: Random) -> datetime:
    return EPOCH + timedelta(seconds=rng.randrange(365 * 86_400))


def _name(rng: Random) -> str:
    return rng.choice(("night", "batch", "morning", "queue")) + str(rng.randrange(100))


def _base64(rng: Random) -> str:
    return base64.b64encode(_name(rng).encode()).decode()


FORMATS: Final[dict[str, Callable[[Random], str]]] = {
    "date-time": lambda rng: _moment(rng).isoformat().replace("+00:00", "Z"),
    "date": lambda rng: _moment(rng).date().isoformat(),
    "time": lambda rng: _moment(rng).time().isoformat() + "Z",
    "duration": lambda rng: f"PT{rng.randrange(1, 600)}S",
    "email": lambda rng: f"{_name(rng)}@example.com",
    "idn-email": lambda rng: f"{_name(rng)}@example.com",
    "name-email": lambda rng: f"Night Owl <{_name(rng)}@example.com>",
    "hostname": lambda rng: f"{_name(rng)}.example.com",
    "uri": lambda rng: f"https://example.com/{_name(rng)}",
    "uri-reference": lambda rng: f"/{_name(rng)}",
    "multi-host-uri": lambda rng: f"https://example.com/{_name(rng)}",
    "uuid": lambda rng: str(UUID(int=rng.getrandbits(128), version=4)),
    "uuid4": lambda rng: str(UUID(int=rng.getrandbits(128), version=4)),
    "ipv4": lambda rng: str(IPv4Address(0x0A000000 + rng.randrange(1 << 16))),
    "ipv6": lambda rng: str(IPv6Address((0x20010DB8 << 96) + rng.randrange(1 << 32))),
    "byte": _base64,
    "base64url": _base64,
    "json-string": lambda rng: f'"{_name(rng)}"',
    "path": lambda rng: f"/tmp/{_name(rng)}",  # noqa: S108  (an example value; nothing is opened)
}
