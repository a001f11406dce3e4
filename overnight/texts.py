"""Text from outside, made fit for where it goes."""


def storable(text: str) -> str:
    """Text that PostgreSQL takes: its `text` type holds neither NUL characters nor lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
