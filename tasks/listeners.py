"""Who wants to know how a run in this process goes: the command line's display, a test's recorder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol


class Listener(Protocol):
    """Told about every node of a run, in order; must be quick and must not raise."""

    def started(self, node: str) -> None:
        """A node begins: first it is looked up, then made if need be."""

    def progressed(self, node: str, done: int, total: int, note: str) -> None:
        """`done` of `total` units (0: unknown)."""

    def finished(self, node: str, how: str, seconds: float) -> None:
        """`how` is cached, made or adopted."""


_listeners: Final[list[Listener]] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` about the runs of this process while the block lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def started(node: str) -> None:
    """Tell everyone that a node begins."""
    for listener in tuple(_listeners):
        listener.started(node)


def progressed(node: str, done: int, total: int, note: str) -> None:
    """Tell everyone how far a node is."""
    for listener in tuple(_listeners):
        listener.progressed(node, done, total, note)


def finished(node: str, how: str, seconds: float) -> None:
    """Tell everyone that a node has its artifact."""
    for listener in tuple(_listeners):
        listener.finished(node, how, seconds)
