"""Every code block of the documentation is run, as its reader would; what cannot be run says why, and is parsed."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from overnight.testing import SimulatorControl
from tests.docs.blocks import PRINTS, ROOT, Block, blocks, pages, reason_for_page
from tests.docs.checking import CHECKS, PROSE, RUN, check, commands, known_command
from tests.docs.running import Page, matches

ALL = [block for page in pages() for block in blocks(page)]


def is_run(block: Block) -> bool:
    return block.language in RUN and block.reason is None and reason_for_page(block.page) is None


TO_RUN = [page for page in pages() if any(is_run(block) for block in blocks(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", TO_RUN, ids=name)
async def test_every_block_of_the_page_works(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    simulator: SimulatorControl = request.getfixturevalue("overnight_simulator")
    given = {"simulator": simulator, "json": json, "Decimal": Decimal, "timedelta": timedelta}
    reader = Page(tmp_path, request.getfixturevalue("overnight"), given)
    with reader.open():
        try:
            for block in blocks(page):
                if block.reason is None:
                    await reader.run(block)
        finally:
            await reader.close()


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_block_is_what_its_language_says(page: Path) -> None:
    for block in blocks(page):
        if block.language in CHECKS and block.title != PRINTS:
            check(block)


def test_a_block_that_is_not_run_says_why() -> None:
    silent = [block.where for block in ALL if block.language not in CHECKS.keys() | PROSE | RUN and not block.reason]

    for block in ALL:
        if reason := block.reason or reason_for_page(block.page):
            print(f"{block.where}: not run: {reason}")  # noqa: T201 - this is where it is read
    assert silent == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_no_comment_about_a_block_is_passed_over(page: Path) -> None:
    written = len(re.findall(r"^<!-- (?:not run|exit code|stays|meanwhile)", page.read_text(), re.MULTILINE))
    found = blocks(page)

    assert written == sum(bool(block.reason or block.exit_code or block.ready or block.hidden) for block in found)


def test_most_blocks_are_run() -> None:
    code = [block for block in ALL if block.language in RUN and not reason_for_page(block.page)]

    assert len(code) > 50
    assert sum(map(is_run, code)) / len(code) > 0.7


def test_the_checks_notice_a_wrong_command_option_and_target() -> None:
    for wrong in (["overnight", "lst"], ["overnight", "list", "--stauts", "failed"], ["make", "tset"]):
        with pytest.raises(Exception, match=r"lst|stauts|tset"):
            known_command(wrong, "here")
    with pytest.raises(AssertionError):
        known_command(["pip", "install", "overnight[embeded]"], "here")
    assert [*commands("a b | c 'd e' && f\n")] == [["a", "b"], ["c", "d e"], ["f"]]


def test_what_is_shown_as_printed_is_compared() -> None:
    assert matches("batch … is ended\n", "batch 0123 is ended")
    assert not matches("batch … is ended\n", "batch 0123 is ended.")
