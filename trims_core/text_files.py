"""Text and JSON that a person wrote or a tool left: UTF-8, with or without a byte order mark.

Covered: the mark is no part of the text; folders, UTF-16, Latin-1, cut files, keys that occur twice and
numbers that JSON does not have are refused by name. Not covered: files of the store, which it wrote itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from trims_core.errors import ConfigError
from trims_core.paths import located

BOM: Final = "\ufeff"
DAMAGED: Final = "Running again will not help: fetch or copy the file again"


def text_of(path: Path, expected: str) -> str:
    """A file's text.

    Args:
        expected: what it should be, for messages, such as `a YAML file`.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{located(path)}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise ConfigError(f"{located(path)}: a folder; expected {expected}. Name the file itself") from None
    except OSError as error:
        raise ConfigError(
            f"{located(path)}: cannot be read ({error.strerror}); expected {expected}"
        ) from error
    if b"\0" in data:
        raise ConfigError(f"{path}: UTF-16, or no text at all (it has zero bytes). Save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: not UTF-8 (byte {data[error.start]:#04x} in line {line}); expected {expected}"
        ) from error


def json_of(path: Path, expected: str) -> Any:
    """What a JSON file holds.

    Args:
        expected: what it should be, for messages, such as `a DeepSpeed JSON`.

    Raises:
        ConfigError: as `text_of`; or it is not JSON, a key occurs twice, a number is NaN or infinite.
    """
    try:
        return json.loads(
            text_of(path, expected),
            object_pairs_hook=_once,
            parse_float=_finite,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); expected {expected}") from error


def object_of(path: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file that came with a checkpoint, for example.

    Raises:
        ConfigError: as `json_of`, or it holds something else; says that running again will not help.
    """
    try:
        found = json_of(path, expected)
    except ConfigError as error:
        raise ConfigError(f"{error}. {DAMAGED}" if path.is_file() else str(error)) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds a JSON {type(found).__name__}; expected {expected}. {DAMAGED}")
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")
