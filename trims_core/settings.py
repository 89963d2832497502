"""Reading a run's settings: YAML < environment < `settings` < `--set`, every problem reported at once.

The environment is `TRIMS_<SECTION>__<FIELD>` (`TRIMS_TRAIN__LORA__R=16`) and `TRIMS_STORE`; values are YAML.
A value has the type that is expected or is refused: nothing is converted but whole numbers to fractions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, Tag, ValidationError

from trims_core.config import TemplateConfig, TrimsConfig
from trims_core.errors import ConfigError, nearest_name
from trims_core.paths import path_given
from trims_core.plain_values import wrong_values
from trims_core.sections import Section
from trims_core.text_files import text_of
from trims_core.yaml_text import yaml_of

AnySection = TypeVar("AnySection", bound=Section)

_HINTS: Final = {
    "string_type": "put it in quotes",
    "bool_type": "write true or false, without quotes",
    "int_type": "write a whole number in decimal digits, without quotes",
    "float_type": "write a number in decimal digits, without quotes",
}
"""What to do about a value of another type."""


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> TrimsConfig:
    """The validated settings of a YAML file; environment, given sections and `a.b=c` overrides in this order.

    Args:
        given: some sections with some of their fields.

    Raises:
        ConfigError: listing every wrong value with its place, and the nearest name of an unknown key.
    """
    return parse_config(raw_settings(path, overrides, env, given), source=str(path))


def raw_settings(
    path: str | Path,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `load_config` validates: the file's sections with all that stands in their place."""
    path = Path(path_given(str(path), "config"))
    raw = yaml_of(text_of(path, "a YAML file such as configs/demo.yaml"), str(path))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected sections (corpus, scores, …), found {type(raw).__name__}")
    for key, value in _from_environment(os.environ if env is None else env).items():
        _put(raw, key, value)
    _merge(raw, given or {})
    return with_overrides(raw, overrides)


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The same sections with `a.b=c` in place, values in YAML. Raises: ConfigError: a word without =."""
    changed = dict(raw)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected a.b=value")
        _put(changed, key.strip(), yaml_of(value, f"--set {text}"))
    return changed


def with_values(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same sections with these settings in place, by dotted names; `raw` stays as it is."""
    changed = dict(raw)
    for dotted, value in values.items():
        _put(changed, dotted, value)
    return changed


def parse_config(raw: Mapping[str, Any], source: str = "settings") -> TrimsConfig:
    """The validated settings of a plain mapping. Raises: ConfigError, all problems in one message."""
    lines = list(wrong_values(raw))
    if not lines:
        try:
            return TrimsConfig.model_validate(raw)
        except ValidationError as error:
            lines = [_explain(problem) for problem in error.errors()]
    shown = "".join(f"\n  {line}" for line in lines)
    raise ConfigError(f"{source}: {len(lines)} wrong setting(s):{shown}")


def template_config(keywords: Sequence[str], file: str | None) -> TemplateConfig:
    """A chat template's settings from a command line: `key=value` words, values in YAML.

    Raises:
        ConfigError: a word without =, or a keyword that no template may be given.
    """
    template = {}
    for text in keywords:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--template {text}: expected key=value, such as enable_thinking=false")
        template[key.strip()] = yaml_of(value, f"--template {text}")
    return section_of(TemplateConfig, {"template": template, "template_file": file})


def section_of(kind: type[AnySection], raw: Mapping[str, Any]) -> AnySection:
    """A validated section that stands in no file. Raises: ConfigError, all problems in one message."""
    lines = list(wrong_values(raw))
    if not lines:
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            lines = [_explain(problem) for problem in error.errors()]
    raise ConfigError("; ".join(lines))


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in sorted(env.items()):
        if name == "TRIMS_STORE":
            found["store"] = value
        elif name.startswith("TRIMS_") and "__" in name:
            found[name.removeprefix("TRIMS_").lower().replace("__", ".")] = yaml_of(value, name)
    return found


def _put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, field = dotted.split(".")
    here = raw
    for name in sections:
        inner = {} if here.get(name) is None else here[name]  # a section that is left empty is null
        if not isinstance(inner, dict):
            raise ConfigError(f"{dotted}: {name} is not a section")
        here[name] = dict(inner)  # a YAML alias may stand elsewhere for the same section
        here = here[name]
    here[field] = value


def _merge(raw: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put fields of sections into a config's sections; a field that is no section is replaced."""
    for name, value in given.items():
        inner = raw.get(name)
        if isinstance(value, Mapping) and isinstance(inner, dict):
            raw[name] = dict(inner)
            _merge(raw[name], value)
        else:
            raw[name] = value


def _explain(problem: Any) -> str:
    location = problem["loc"]
    parts, _ = _walked(location)
    place = ".".join(parts) or "(top level)"
    if problem["type"] == "extra_forbidden":
        _, section = _walked(location[:-1])
        names = list(section.model_fields) if section is not None else []
        return f"{place}: unknown key; {nearest_name(str(location[-1]), names)}"
    if problem["type"] == "union_tag_invalid":
        found, expected = problem["ctx"]["tag"], problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{place}.method: no method {found!r}; {nearest_name(found, expected)}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    if isinstance(value, dict | BaseModel):
        return f"{place}: {message}"
    hint = _HINTS.get(problem["type"], "")
    return f"{place}: {message} (found {value!r})" + (f"; {hint}" if hint else "")


def _walked(location: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """Names on the way to a place in the tree, and the section there (None where it is not one).

    Pydantic puts the tag of a union's member in between; nobody writes that into a config.
    """
    here: Any = TrimsConfig
    parts = []
    for part in location:
        members = _members(here)
        if part in members:
            here = members[part]
            continue
        parts.append(str(part))
        field = here.model_fields.get(str(part)) if _is_section(here) else None
        here = _inside(here) if field is None else field.annotation
    return parts, here if _is_section(here) else _section_in(here)


def _members(annotation: Any) -> dict[int | str, Any]:
    """The classes of a union by tag, by their tags."""
    if not hasattr(annotation, "__metadata__"):
        return {}
    found = [
        (tag.tag, one.__origin__)
        for one in get_args(get_args(annotation)[0])
        for tag in getattr(one, "__metadata__", ())
        if isinstance(tag, Tag)
    ]
    return dict(found)


def _inside(annotation: Any) -> Any:
    """What a mapping's or a list's values are, or the section inside `Section | None`."""
    arguments = get_args(annotation)
    return _section_in(annotation) or (arguments[-1] if arguments else None)


def _section_in(annotation: Any) -> Any:
    """The section class inside `dict[str, Section]` or `Section | None`, if any."""
    return next((inner for inner in get_args(annotation) if _is_section(inner)), None)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
