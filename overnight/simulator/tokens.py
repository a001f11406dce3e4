"""Token counts: an approximation that anyone can repeat with a pocket calculator.

One token per four bytes of UTF-8, rounded up, plus four per message for the chat framing. English comes out
close to what the providers count; other scripts come out high, which is the safe side for a cost estimate.
"""

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4


def count_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def truncate(text: str, max_tokens: int | None) -> tuple[str, bool]:
    """The text within its budget, and whether anything was cut off."""
    raw = text.encode("utf-8", "surrogatepass")
    if max_tokens is None or len(raw) <= max_tokens * BYTES_PER_TOKEN:
        return text, False
    kept = raw[: max_tokens * BYTES_PER_TOKEN]
    # A cut inside a multi-byte character drops that character; a lone surrogate must still pass.
    while kept:
        try:
            return kept.decode("utf-8", "surrogatepass"), True
        except UnicodeDecodeError:
            kept = kept[:-1]
    return "", True
