"""Expand first, contract a release later: what an upgrade does must not be noticed by the version that still runs."""

import re

import pytest

from tests.architecture.sources import ROOT

SCRIPTS = sorted((ROOT / "overnight" / "storage" / "migrations" / "versions").glob("*.sql"))
# What code of the version before could miss, or trip over.
DESTRUCTIVE = re.compile(
    r"\bdrop\b|\brename\b|\btruncate\b|\bdelete\s+from\b|\balter\s+column\s+\w+\s+(set\s+data\s+)?type\b|\bset\s+not\s+null\b"
    r"|\badd\s+column\s+(?:if not exists\s+)?\w+\s(?=[^;,]*\bnot\s+null\b)(?![^;,]*\bdefault\b)",
    re.IGNORECASE,
)
RAISED = re.compile(r"comment on schema overnight is 'serves code from \d{4}'")


def destruction(script: str) -> list[str]:
    """What a script takes away; comments and texts are no statements, and a function's body is not run yet."""
    body = r"\bas \$\$.*?\$\$"
    statements = re.sub(rf"{body}|--[^\n]*|'(?:[^']|'')*'|\bon delete set null\b", "", script, flags=re.DOTALL)
    return [found[0] for found in DESTRUCTIVE.finditer(statements)]


def is_contraction(name: str) -> bool:
    return "_contract_" in name


def test_only_a_contraction_takes_anything_away() -> None:
    assert SCRIPTS
    found = {script.name: destruction(script.read_text()) for script in SCRIPTS if not is_contraction(script.name)}
    assert {name: what for name, what in found.items() if what} == {}


def test_a_contraction_says_from_which_code_on_the_schema_serves() -> None:
    silent = [s.name for s in SCRIPTS if is_contraction(s.name) and not RAISED.search(s.read_text())]
    assert silent == []
    assert RAISED.search(SCRIPTS[0].read_text())


@pytest.mark.parametrize(
    "statement",
    [
        "alter table overnight.batches drop column handler",
        "drop table overnight.outputs",
        "alter table overnight.batches rename column handler to user_handler",
        "alter table overnight.results alter column cost type text",
        "alter table overnight.results alter column cost set data type text",
        "alter table overnight.batches alter column handler set not null",
        "alter table overnight.batches add column colour text not null",
        "delete from overnight.entries",
        "truncate overnight.entries",
        "do $$ begin delete from overnight.entries; end $$",
    ],
)
def test_what_the_running_version_would_miss_is_noticed(statement: str) -> None:
    assert destruction(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table overnight.batches add column colour text",
        "alter table overnight.batches add column colour text default 'red' not null",
        "create table overnight.colours (name text not null)",
        "create function f() returns trigger language plpgsql as $$ begin delete from overnight.entries; end $$",
        "-- drop nothing\ncreate index on overnight.batches (model)",
        "comment on column overnight.batches.model is 'do not drop'",
    ],
)
def test_what_it_does_not_notice_is_allowed(statement: str) -> None:
    assert destruction(statement) == []
