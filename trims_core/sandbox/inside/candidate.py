"""The process of the program: it runs the program's top level, then answers what the judge asks of its names.

No verdict, test or expected value is ever in this process, so that nothing in it is worth forging. Whatever
the program does to this code, it can only send plain values, or nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .channel import Channel, EndedError
from .plain import NotPlainError

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from typing import Any

_MODULE = "candidate"


def serve(source: str, reads: int, writes: int) -> None:
    """Run the program and answer until the judge is gone."""
    kept: list[object] = []

    def handle(value: object) -> int:
        kept.append(value)
        return len(kept) - 1

    channel = Channel(reads, writes, handle, kept.__getitem__)
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    try:
        exec(compile(source, f"{_MODULE}.py", "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its own failure
        channel.send(("raised", *_said(error)))
        return
    channel.send(("ran",))
    while True:
        try:
            asked = channel.receive()
        except EndedError:
            return
        try:
            reply: tuple[object, ...] = ("gave", _answer(asked, module.__dict__))
        except BaseException as error:  # noqa: BLE001
            reply = ("raised", *_said(error))
        try:
            channel.send(reply)
        except (NotPlainError, RecursionError, MemoryError) as error:
            channel.send(("raised", *_said(error)))


def _answer(asked: Any, names: dict[str, Any]) -> object:
    what, *rest = asked
    if what == "call":
        name, arguments, keywords = rest
        if name not in names:
            raise NameError(f"name {name!r} is not defined")
        return names[name](*arguments, **keywords)
    if what == "get":
        return getattr(*rest)
    if what == "true":
        return bool(*rest)
    setattr(*rest)
    return None


def _said(error: BaseException) -> tuple[str, str]:
    """Its type's name and its text, as far as it has one."""
    try:
        text = str(str(error))[:500]
    except BaseException:  # noqa: BLE001 - a program's own __str__
        text = ""
    return str(type(error).__name__), text
