"""Batch ids: UUIDs of version 7 (RFC 9562), which sort by time and so keep the primary key's index compact.

Where the same batch must be found again by whoever asks for it again, the id follows from a key (version 5). What marks
a submission at the provider follows from its batch.
"""

import hashlib
import secrets
import string
import time
from datetime import UTC, datetime
from uuid import UUID, uuid5

_TOKEN_ALPHABET = string.ascii_lowercase + string.digits


def new_batch_id() -> UUID:
    """A fresh id: 48 bits of milliseconds, then randomness. Python's own `uuid7` comes with 3.14."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    return UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)


# What keys without a parent are names in. Neither this nor the names below are ever changed, or batches would be made
# twice.
_KEYS = UUID("6f766572-6e69-5768-8000-6b6579000000")


_NAMES = {"batch": "", "campaign": "campaign-"}


def keyed_id(key: str, *, parent: UUID | None = None, what: str = "batch") -> UUID:
    """The id that belongs to a key: among the batches or campaigns that follow a parent, or in the whole database."""
    return uuid5(parent or _KEYS, f"{_NAMES[what]}key:{key}")


def numbered_id(number: int, *, parent: UUID, what: str = "batch") -> UUID:
    """The id of a parent's first, second, ... batch or campaign that was given no key."""
    return uuid5(parent, f"{_NAMES[what]}number:{number}")


def submission_token(batch_id: UUID, created_at: datetime, number: int) -> str:
    """Eight characters that mark what a submission makes at the provider.

    They follow from the batch, and so are the same when a database that was restored to an earlier moment has forgotten
    the submission: what was made, and paid, is found again (docs/decisions/0028). The moment of its creation tells
    batches apart that have the same key in two databases.
    """
    names = f"{batch_id} of {created_at.astimezone(UTC).isoformat()}, submission {number}"
    digest = hashlib.sha256(names.encode()).digest()
    return "".join(_TOKEN_ALPHABET[byte % len(_TOKEN_ALPHABET)] for byte in digest[:8])
