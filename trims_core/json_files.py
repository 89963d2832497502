"""Small JSON files that others wrote: an object, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trims_core.errors import ConfigError

DAMAGED = "Running again will not help: fetch or copy the file again"


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        expected: what the file should be, for messages.

    Raises:
        ConfigError: no such file, or not JSON with an object in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; expected {expected}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error}); expected {expected}. {DAMAGED}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds a JSON {type(found).__name__}; expected {expected}. {DAMAGED}")
    return found
