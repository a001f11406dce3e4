"""No `if provider ==` outside a provider's own file: what differs between providers is a fact on the provider."""

import ast
from collections.abc import Iterator

from overnight.providers import provider_names
from tests.architecture.sources import ROOT, modules, parse, where

# The adapters' own folder, and the simulator, which is the providers: it imports nothing of ours, so their two
# dialects can be told apart nowhere else.
_AT_HOME = (ROOT / "overnight" / "providers", ROOT / "overnight" / "simulator")


def compared(tree: ast.AST) -> Iterator[ast.expr | ast.pattern]:
    """What is compared or matched with something in a tree."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                yield from (node.left, *node.comparators)
            case ast.MatchValue() | ast.MatchMapping():
                yield node
            case _:
                pass


def names_a_provider(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and part.value in provider_names() for part in ast.walk(node))


def test_nothing_outside_a_providers_own_file_asks_which_provider_it_is() -> None:
    elsewhere = [file for file in modules() if not any(file.is_relative_to(home) for home in _AT_HOME)]
    found = [where(file, node) for file in elsewhere for node in compared(parse(file)) if names_a_provider(node)]

    assert elsewhere
    assert found == []


def test_every_form_of_asking_is_recognised() -> None:
    asked = """
if provider == "openai": ...
if "anthropic" != provider: ...
if provider in ("openai", "other"): ...
match provider:
    case "openai" | "other": ...
    case {"provider": "anthropic"}: ...
"""
    told = """
facts = {"openai": 1}["openai"]
name = "anthropic"
if provider in facts: ...
"""

    assert len({node.lineno for node in compared(ast.parse(asked)) if names_a_provider(node)}) == 5
    assert not any(names_a_provider(node) for node in compared(ast.parse(told)))
