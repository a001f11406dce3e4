import sys
from pathlib import Path

import pytest

from overnight.errors import AmbiguousNameError, ConfigurationError, UnknownHandlerError, UnknownTaskError
from overnight.handlers import BatchHandler, handlers
from overnight.registry import Names, load_modules


@pytest.fixture
def names() -> Names[object]:
    return Names("task", UnknownTaskError)


def made(name: str, *, module: str = "app", qualname: str | None = None) -> type[object]:
    return type(name, (), {"__module__": module, "__qualname__": qualname or name})


def test_a_class_is_found_by_its_own_name_or_the_one_it_was_given(names: Names[object]) -> None:
    one, two = made("One"), made("Two")
    names.register(one, None)
    names.register(two, "second")
    assert (names.resolve("One"), names.resolve("second")) == (one, two)
    assert (names.name_of(one), names.name_of(two)) == ("One", "second")
    assert names.known() == ["One", "second"]


def test_an_unknown_name_is_told_what_is_known_and_what_to_import(names: Names[object]) -> None:
    with pytest.raises(UnknownTaskError, match="Known here: none"):
        names.resolve("Nope")
    names.register(made("B"), None)
    names.register(made("A"), None)
    with pytest.raises(UnknownTaskError, match=r"task 'Nope'.*--import my_app\.batches.*Known here: A, B"):
        names.resolve("Nope")


def test_two_classes_of_one_name_are_an_error_only_for_those_who_use_it(names: Names[object]) -> None:
    here, there = made("Same", module="here"), made("Same", module="there")
    names.register(here, None)
    names.register(there, None)
    names.register(made("Other"), None)
    assert names.resolve("Other")
    for use in (lambda: names.resolve("Same"), lambda: names.name_of(here), lambda: names.name_of(there)):
        with pytest.raises(AmbiguousNameError, match=r"here\.Same and there\.Same"):
            use()


def test_a_class_that_is_defined_again_at_its_place_replaces_the_old_one(names: Names[object]) -> None:
    old, new = made("Same"), made("Same")
    names.register(old, None)
    names.register(new, None)
    assert names.resolve("Same") is new


def test_an_unregistered_class_has_no_name(names: Names[object]) -> None:
    with pytest.raises(UnknownTaskError, match="Stranger"):
        names.name_of(made("Stranger"))


def test_handlers_have_names_of_their_own() -> None:
    class Save(BatchHandler, name="registry-test-save"):
        pass

    assert handlers.resolve("registry-test-save") is Save
    with pytest.raises(UnknownHandlerError, match="handler 'registry-test-nope'"):
        handlers.resolve("registry-test-nope")


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_loading_a_module_registers_what_it_defines(module_folder: Path) -> None:
    source = "from overnight.handlers import BatchHandler\nclass Loaded(BatchHandler, name='loaded-1'): pass\n"
    (module_folder / "overnight_test_loaded.py").write_text(source)
    load_modules(["overnight_test_loaded"])
    assert handlers.resolve("loaded-1").__module__ == "overnight_test_loaded"


def test_a_module_that_does_not_import_is_named_with_the_reason(module_folder: Path) -> None:
    (module_folder / "overnight_test_broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigurationError, match="'overnight_test_broken': ZeroDivisionError"):
        load_modules(["overnight_test_broken"])
    with pytest.raises(ConfigurationError, match="'overnight_test_absent': ModuleNotFoundError"):
        load_modules(["overnight_test_absent"])
