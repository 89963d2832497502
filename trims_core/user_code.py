"""Code of the user's own that a setting names as `package.module:Name`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests


def split_path(text: str, setting: str, known: str = "") -> tuple[str, str]:
    """Module and name of `package.module:Name`.

    Args:
        setting: where the text stands, for the error. known: other words that may stand there.

    Raises:
        ConfigError: it has another form.
    """
    module, colon, name = text.partition(":")
    if not (module and colon and name.isidentifier()):
        expected = f"{known} or your own package.module:Name" if known else "package.module:Name"
        raise ConfigError(f"{setting}: {text!r}; expected {expected}")
    return module, name


def source_file(text: str, setting: str, known: str = "") -> str:
    """Path of the module's file; imports its packages alone. Raises: ConfigError where it is missing."""
    module, _ = split_path(text, setting, known)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{setting}: {text}: {error}; is it installed or on PYTHONPATH?") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise ConfigError(f"{setting}: no module {module!r}; is it installed or on PYTHONPATH?")
    return spec.origin


def load(text: str, setting: str) -> Any:
    """What the text names. Raises: ConfigError where it cannot be imported."""
    module, name = split_path(text, setting)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{setting}: {text} cannot be loaded ({type(error).__name__}: {error})") from error


def source_digest(text: str, setting: str, digests: Digests, known: str = "") -> str:
    """Digest of a user's code: all Python files of its package, or its one file.

    Not covered: what a lone module imports, other packages, and the rest of this one for its own examples.
    """
    path = Path(source_file(text, setting, known))
    package = text.partition(":")[0].partition(".")[0]
    folder = next((parent for parent in path.parents if parent.name == package), None)
    if folder is None or package == __package__ or not (folder / "__init__.py").is_file():
        return digests.file(path)
    return digests.tree(folder, ["*.py"])
