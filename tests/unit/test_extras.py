"""Which extras the doctor knows."""

import re
import tomllib
from pathlib import Path

from overnight.doctor import checks

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_doctor_knows_every_extra_and_what_it_installs() -> None:
    extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[^\w-]", found)[0] for found in wanted} for extra, wanted in extras.items()}
    assert {extra: set(found) for extra, found in checks._EXTRAS.items()} == names


def test_an_extra_is_installed_when_all_of_it_is() -> None:
    assert checks._is_installed("psycopg")
    assert not checks._is_installed("psycopg-that-nobody-made")
