"""The Python in a text, and the part of it that some names need: what published clean-ups look for.

Sources of the rules, in code of our own: NVlabs/Fast-dLLM (llada/postprocess_code.py and sanitize.py) and
evalplus (evalplus/sanitize.py). Where these drop what the names do need (a table read by an attribute,
`a, b = 1, 2`, a function that returns nothing), it is kept here.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Iterator
from typing import Final

_OPENING: Final = "```python\n"
_CLOSING: Final = "```"
_MOST_LINES: Final = 100
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def fenced(text: str) -> str:
    """What stands behind the first "```python" and before the next "```"; without the first, the text before
    any fence, as answers have it whose prompt has opened one."""
    return text.split(_OPENING, 1)[-1].split(_CLOSING)[0]


def longest_valid(text: str) -> str:
    """The run of lines that is Python and has the most lines with something on them; the first such run.

    Only the first 100 lines are looked at, as published; the work grows with their square.
    """
    lines = text.replace("\t", "    ").replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    lines = lines[:_MOST_LINES]
    filled = [bool(line.strip()) for line in lines]
    runs = sorted(
        (-sum(filled[first:behind]), first, behind)
        for first in range(len(lines))
        if not lines[first].startswith(" ") or lines[first].lstrip().startswith("#")
        for behind in range(first + 1, len(lines) + 1)
    )
    return next((run for run in _texts(lines, runs) if _parsed(run) is not None), "")


def _texts(lines: list[str], runs: list[tuple[int, int, int]]) -> Iterator[str]:
    for _, first, behind in runs:
        yield "\n".join(lines[first:behind])


def needed_by(code: str, names: Collection[str]) -> str:
    """Imports, and the definitions and assignments that these names need, in their order.

    A function without `return` gives way to another of its name with one: a prompt repeated without a body
    would hide the answer.
    """
    tree = _parsed(code)
    if tree is None:
        return ""
    returning = {node.name for node in tree.body if isinstance(node, _Definition) and _returns(node)}
    kept: list[tuple[ast.stmt, set[str]]] = []
    for node in tree.body:
        if isinstance(node, _Definition):
            hides = not isinstance(node, ast.ClassDef) and node.name in returning and not _returns(node)
            kept += [] if hides else [(node, {node.name})]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            kept.append((node, {name for target in targets for name in _names(target)}))
    reached = _reached(kept, names)
    parts = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        or any(node is one and bound & reached for one, bound in kept)
    ]
    return ast.unparse(ast.Module(parts, []))


def _reached(kept: list[tuple[ast.stmt, set[str]]], names: Collection[str]) -> set[str]:
    """The names, and all names in what binds one that is reached."""
    reached, new = set(names), set(names)
    while new:
        found = {name for node, bound in kept if bound & new for name in _names(node)}
        new = found - reached
        reached |= new
    return reached


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _returns(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        isinstance(inner, ast.Return | ast.Yield | ast.YieldFrom) for inner in ast.walk(node)
    )


def tree_of(code: str) -> ast.Module:
    """What Python reads in a text; it says nothing of what it would have written otherwise.

    Raises: SyntaxError, ValueError, MemoryError, RecursionError: it is no Python, or more than it can hold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _parsed(code: str) -> ast.Module | None:
    try:
        return tree_of(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
