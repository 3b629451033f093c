"""docs/guarantees.md names only tests that exist, a test for each promise, and code that is short enough."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from fraudstream.config import PROJECT_DIR

PAGE = PROJECT_DIR / "docs" / "guarantees.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
READ_BESIDE_THE_PAGE = {"fraudstream/streaming.py": "_process", "fraudstream/store/commit.py": "commit_batch"}
LINES_THAT_FIT_A_SCREEN = 45


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def promises() -> dict[str, str]:
    """Each promise, by its heading, with what is said of it."""
    (held,) = re.findall(r"^## What holds\n(.*?)^## ", page(), re.MULTILINE | re.DOTALL)
    heading, *parts = re.split(r"^### (.*)\n", held, flags=re.MULTILINE)
    assert not heading.strip()
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def functions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((PROJECT_DIR / path).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), TEST.findall(page()))
def test_each_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions(path)


@pytest.mark.parametrize("promise", promises())
def test_each_promise_names_a_test(promise: str) -> None:
    assert TEST.findall(promises()[promise])


def test_each_file_of_fault_tests_shows_a_promise() -> None:
    files = {f"tests/faults/{path.name}" for path in (PROJECT_DIR / "tests" / "faults").glob("test_*.py")}
    assert files - {path for path, _ in TEST.findall(page())} == set()


@pytest.mark.parametrize(("path", "name"), READ_BESIDE_THE_PAGE.items())
def test_the_code_to_be_read_beside_the_page_is_there_and_short(path: str, name: str) -> None:
    assert f"`{name}`" in page() and f"`{path}`" in page()
    function = functions(path)[name]
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno < LINES_THAT_FIT_A_SCREEN


@pytest.mark.parametrize("linking", ["README.md", "docs/architecture.md"])
def test_the_page_is_linked(linking: str) -> None:
    assert "guarantees.md)" in (PROJECT_DIR / linking).read_text(encoding="utf-8")
