"""Small bodies, small modules."""

import ast
from collections.abc import Iterator

from tests.architecture.sources import ROOT, modules, parse, where

BODY_MAX, MODULE_MAX = 32, 450

Function = ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(function: Function) -> int:
    """Lines of the body, without the docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions() -> Iterator[tuple[str, Function]]:
    for file in modules():
        for node in ast.walk(parse(file)):
            if isinstance(node, Function):
                yield f"{where(file, node)} {node.name}", node


def test_no_function_body_is_longer_than_32_lines() -> None:
    sizes = {name: body_lines(function) for name, function in functions()}

    assert sizes
    assert {name: lines for name, lines in sizes.items() if lines > BODY_MAX} == {}


def test_no_module_is_longer_than_450_lines() -> None:
    sizes = {str(file.relative_to(ROOT)): file.read_text().count("\n") for file in modules()}

    assert sizes
    assert {name: lines for name, lines in sizes.items() if lines > MODULE_MAX} == {}


def test_a_docstring_does_not_count_and_a_body_does() -> None:
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a\n').body[0]

    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 3
