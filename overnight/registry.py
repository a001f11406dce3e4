"""Names to classes. A row or a foreign client can only ever name what was registered by an import of the user's own:
nothing is imported because a row says so.
"""

import importlib
from collections.abc import Iterable
from typing import Generic, TypeVar

from overnight.errors import AmbiguousNameError, ConfigurationError, UnknownHandlerError, UnknownTaskError

T = TypeVar("T")


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class Names(Generic[T]):
    """The registered classes of one kind.

    Registering never fails, for it happens while modules are being imported; two classes of one name are an error
    only for those who use the name. A class that is defined again at the same place (a reload) replaces the old one.
    """

    def __init__(self, kind: str, unknown: type[UnknownTaskError | UnknownHandlerError]) -> None:
        self._kind, self._unknown = kind, unknown
        self._classes: dict[str, dict[str, type[T]]] = {}
        self._names: dict[type[T], str] = {}

    def register(self, cls: type[T], name: str | None) -> None:
        """Make a class known under a name, by default its own."""
        name = name or cls.__name__
        self._classes.setdefault(name, {})[_place(cls)] = cls
        self._names[cls] = name

    def resolve(self, name: str) -> type[T]:
        """The class of this name.

        Raises:
            UnknownTaskError: or UnknownHandlerError, when there is none.
            AmbiguousNameError: two classes share it.
        """
        found = self._classes.get(name, {})
        if not found:
            known = ", ".join(sorted(self._classes)) or "none"
            raise self._unknown(
                self._kind, name, f"Import the module that defines it (--import my_app.batches). Known here: {known}."
            )
        if len(found) > 1:
            raise AmbiguousNameError(self._kind, name, sorted(found))
        return next(iter(found.values()))

    def name_of(self, cls: type[T]) -> str:
        """The name under which a class can be found again.

        Raises:
            UnknownTaskError: or UnknownHandlerError, when it has none.
            AmbiguousNameError: another class has the same one.
        """
        name = self._names.get(cls)
        if name is None:
            raise self._unknown(self._kind, cls.__qualname__, "Only concrete subclasses have a name.")
        self.resolve(name)
        return name

    def known(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._classes)


def load_modules(names: Iterable[str]) -> None:
    """Import the user's modules, which registers what they define.

    Raises:
        ConfigurationError: a module does not import; the text says why.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the user's module does while it is imported
            raise ConfigurationError(f"Cannot import {name!r}: {type(error).__name__}: {error}") from error
