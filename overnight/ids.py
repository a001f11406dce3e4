"""Batch ids: UUIDs of version 7 (RFC 9562), which sort by time and so keep the primary key's index compact."""

import secrets
import time
from uuid import UUID


def new_batch_id() -> UUID:
    """A fresh id: 48 bits of milliseconds, then randomness. Python's own `uuid7` comes with 3.14."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    return UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)
