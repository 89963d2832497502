"""Paths as people write them: `~` and `$NAME` are filled in; a relative one starts at the working folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from trims_core.errors import ConfigError

_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
_LONGEST_NAME_BYTES: Final = 255
_LONGEST_PATH_BYTES: Final = 4095


def expanded(text: str) -> str:
    """The path with the home folder in place of `~` or `~user`, and values in place of `$NAME` and `${NAME}`.

    Raises:
        ValueError: a user or variable that there is not, or what no path can be.
    """
    missing = [name for pair in _VARIABLE.findall(text) if (name := pair[0] or pair[1]) not in os.environ]
    if missing:
        raise ValueError(
            f"${missing[0]} is not set in the environment; set it, or write the path out (it cannot hold a $)"
        )
    if not text.strip():
        raise ValueError("is empty; write a path")
    path = os.path.expanduser(_VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], text))  # noqa: PTH111
    if path.startswith("~"):
        raise ValueError(f"{path.partition('/')[0]}: no such user here; write the path out")
    if "\0" in path:
        raise ValueError("holds a zero byte, which no path has")
    data = os.fsencode(path)
    if len(data) > _LONGEST_PATH_BYTES or any(len(name) > _LONGEST_NAME_BYTES for name in data.split(b"/")):
        raise ValueError("is longer than a file's name can be")
    return path


def path_given(text: str, name: str) -> str:
    """Like `expanded`, of an option or argument. Raises: ConfigError, naming it."""
    try:
        return expanded(text)
    except ValueError as error:
        raise ConfigError(f"{name} {text!r:.80}: {error}") from None


def located(path: str | Path) -> str:
    """The path for a message: where a relative one leads is said too."""
    path = Path(path)
    return str(path) if path.is_absolute() else f"{path} (in {Path.cwd()})"
