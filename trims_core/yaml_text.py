"""YAML 1.2 as a person means it: values by the core schema, without its octal and hexadecimal numbers.

`yes`, `on`, `1:30`, `2024-01-01`, `1_000`, `0x10` and `0o17` are texts, `010` is ten. A key that occurs twice
is an error. Read by ruamel.yaml, whose own table for 1.2 still has dates, underscores and binary numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.resolver import VersionedResolver

from trims_core.errors import ConfigError

_TAG: Final = "tag:yaml.org,2002:"
_INT: Final = (f"{_TAG}int", re.compile(r"[-+]?[0-9]+$"))
_FLOAT: Final = (
    f"{_TAG}float",
    re.compile(
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
)
_BOOL: Final = (f"{_TAG}bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"))
_NULL: Final = (f"{_TAG}null", re.compile(r"(~|null|Null|NULL|)$"))
_MERGE: Final = (f"{_TAG}merge", re.compile(r"<<$"))
_BY_FIRST_CHARACTER: Final[Mapping[str, list[tuple[str, re.Pattern[str]]]]] = {
    **{character: [_INT, _FLOAT] for character in "-+0123456789."},
    **{character: [_BOOL] for character in "tTfF"},
    **{character: [_NULL] for character in ("~", "n", "N", "")},
    "<": [_MERGE],
}
_ADVICE: Final = re.compile(r"\nTo suppress this check|; use sys\.")
"""What follows is meant for programmers."""
_OTHER_VERSION: Final = re.compile(r"^%YAML\s+(?!1\.2\s*$).*", re.MULTILINE)


class _CoreSchema(VersionedResolver):
    """What a plain scalar is by its form."""

    @property
    def versioned_resolver(self) -> Any:
        """First character → tags and the forms that have them."""
        return _BY_FIRST_CHARACTER


def yaml_of(text: str, place: str) -> Any:
    """The value that a YAML text stands for.

    Args:
        place: where it stands, for messages.

    Raises:
        ConfigError: it is not valid YAML 1.2, or a key occurs twice.
    """
    if other := _OTHER_VERSION.search(text):
        raise ConfigError(f"{place}: {other.group().strip()}; expected YAML 1.2. Delete the line")
    reader = YAML(typ="safe", pure=True)
    reader.Resolver = _CoreSchema
    try:
        return reader.load(text)
    except RecursionError:
        raise ConfigError(f"{place}: not valid YAML: nested too deeply") from None
    # beside its own errors the reader lets through what Python raises for values that their tags do not allow
    except (YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = _ADVICE.split(str(error))[0].rstrip()
        raise ConfigError(f"{place}: not valid YAML: {why}") from error
