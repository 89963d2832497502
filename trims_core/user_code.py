"""Code of the user's own that a setting names as `package.module:Name`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from trims_core.errors import ConfigError


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
