"""MBPP, full and sanitized: functions to write, {"text" or "prompt", "code", "test_list"}.

Source: Austin et al. 2021 (arXiv 2108.07732). The published test split of the full set is tasks 11 to 510.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders.python_code import tree_of
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, kind_of, text_in


class MbppTasks(Benchmark):
    """Right means: every line of `test_list` passes; the lines of `challenge_test_list` are not asked, as in
    published numbers."""

    name: ClassVar[str] = "mbpp"
    graders: ClassVar[tuple[str, ...]] = ("mbpp", "mbpp_raw")
    columns: ClassVar[Columns] = Columns(
        ("code", "test_list"), ("task_id", "text", "prompt", "test_setup_code", "test_imports")
    )
    default_source: ClassVar[Source] = Source(hub="google-research-datasets/mbpp", hub_config="full")

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        text = text_in(row, "text" if row.get("text") is not None else "prompt", blank=False)
        tests = _lines(row, "test_list")
        if not tests:
            raise UnusableRowError("'test_list' is empty", "expected at least one line of Python")
        setup = text_in(row, "test_setup_code") if row.get("test_setup_code") else ""
        asked = [*([setup] if setup.strip() else []), *tests]
        code = _parsed(text_in(row, "code", blank=False), "'code'")
        used = {name for test in asked for name in _used(_parsed(test, "a test"))}
        names = sorted(used & set(_defined(code)))
        if not names:
            raise UnusableRowError("'code' defines none of the names in 'test_list'", "correct either")
        gold = {
            "tests": asked,
            "names": names,
            # tests may use what the reference solution imports
            "imports": "\n".join([*_lines(row, "test_imports"), *_imports_of(code, used)]),
        }
        facts = {"text": text, "tests": "\n".join(tests)}
        facts |= {f"test_{at}": test for at, test in enumerate(tests, start=1)}
        message = {
            "role": "user",
            "content": f"{text}\nYour code should pass these tests:\n\n{facts['tests']}",
        }
        return Problem(id_in(row, "task_id") or f"mbpp-{number:05d}", (message,), json.dumps(gold), facts)


def _lines(row: Mapping[str, Any], column: str) -> Sequence[str]:
    """A column's list of texts; none where there is no such column."""
    lines = row.get(column)
    if lines is None:
        return ()
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UnusableRowError(f"{column!r} is {kind_of(lines)}", "expected a list of texts")
    return lines


def _parsed(code: str, what: str) -> ast.Module:
    try:
        return tree_of(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UnusableRowError(f"{what} is no Python ({error})", "correct it") from error


def _used(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):  # a function written as `name = lambda …`
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _imports_of(tree: ast.Module, used: set[str]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import) and any((one.asname or one.name) in used for one in node.names):
            yield ast.unparse(node)
