"""The one place where a status, a header or an exception of the wire becomes one of our three provider errors.

What a caller may do next is the only question, and reads and creates answer it differently: a read that failed half way
can be repeated, a create whose answer was lost may have been accepted and paid.

==========================================  =================  ==============================  =================
what happened                               a read, an upload  a create                        an answer
==========================================  =================  ==============================  =================
no connection, nothing sent                 transient          transient                       transient
no answer, or one that cannot be read       transient          ambiguous                       ambiguous
502 and 504                                 transient          ambiguous                       ambiguous
408, 409 and every other 5xx                transient          ambiguous                       transient
425, 429                                    transient          transient: these are refusals   transient
429 with a code that waiting does not mend  permanent          permanent                       permanent
all others                                  permanent          permanent                       permanent
==========================================  =================  ==============================  =================

An answer is one entry, asked for at once and paid for when it comes: what the provider calls an error is not paid for,
and what a gateway says that lost the provider may hide an answer that is.

Uploads stand with the reads: a file that was uploaded twice costs nothing. 503 and 529 mean a refusal when the
provider says them, but proxies answer 503 as well when they lose a connection over which the request had gone; to look
before creating again costs two minutes, to be wrong costs a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, assert_never

import httpx

from overnight.errors import (
    AmbiguousProviderError,
    PermanentProviderError,
    ProviderError,
    TransientProviderError,
)

REFUSED_FOR_NOW = frozenset({425, 429})
FATE_UNKNOWN = frozenset({408, 409})
ORIGIN_LOST = frozenset({502, 504})
NOTHING_WAS_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
BAD_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a provider's error body says."""

    code: str | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What the shared client must know of one provider.

    Attributes:
        read_fault: reads the parsed body of an error answer.
        final_codes: codes that come with a 429 and that no waiting mends, such as an account without money.
    """

    provider: str
    read_fault: Callable[[Any], Fault]
    final_codes: frozenset[str]


class Repeat(Enum):
    """What a call may cost when it is made twice: which column of the table above it is in."""

    HARMLESS = "a read, an upload"
    PAID_BATCH = "a create"
    PAID_ANSWER = "an answer"


def error_class(status: int, repeat: Repeat) -> type[ProviderError]:
    """The table above, for statuses."""
    if status in REFUSED_FOR_NOW:
        return TransientProviderError
    if status not in FATE_UNKNOWN and status < 500:
        return PermanentProviderError
    match repeat:
        case Repeat.HARMLESS:
            return TransientProviderError
        case Repeat.PAID_BATCH:
            return AmbiguousProviderError
        case Repeat.PAID_ANSWER:
            return AmbiguousProviderError if status in ORIGIN_LOST else TransientProviderError
        case _:
            assert_never(repeat)


def silence_class(error: Exception, repeat: Repeat) -> type[ProviderError]:
    """The table above, for calls without an answer."""
    if isinstance(error, BAD_ADDRESS):
        return PermanentProviderError
    if repeat is not Repeat.HARMLESS and not isinstance(error, NOTHING_WAS_SENT):
        return AmbiguousProviderError
    return TransientProviderError
