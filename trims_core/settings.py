"""Reading a run's settings: YAML < environment < `settings` < `--set`, every problem reported at once.

The environment is `TRIMS_<SECTION>__<FIELD>` (`TRIMS_TRAIN__LORA__R=16`) and `TRIMS_STORE`; values are YAML.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from trims_core.config import TemplateConfig, TrimsConfig
from trims_core.errors import ConfigError, nearest_name


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
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a YAML file such as configs/demo.yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected sections (corpus, scores, …), found {type(raw).__name__}")
    for key, value in _from_environment(os.environ if env is None else env).items():
        _put(raw, key, value)
    _merge(raw, given or {})
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected a.b=value")
        _put(raw, key.strip(), _yaml_value(value, f"--set {text}"))
    return parse_config(raw, source=str(path))


def parse_config(raw: Mapping[str, Any], source: str = "settings") -> TrimsConfig:
    """The validated settings of a plain mapping. Raises: ConfigError, all problems in one message."""
    try:
        return TrimsConfig.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {_explain(problem)}" for problem in error.errors()]
        raise ConfigError(f"{source}: {len(lines)} wrong setting(s):\n" + "\n".join(lines)) from None


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
        template[key.strip()] = _yaml_value(value, f"--template {text}")
    try:
        return TemplateConfig(template=template, template_file=file)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in sorted(env.items()):
        if name == "TRIMS_STORE":
            found["store"] = value
        elif name.startswith("TRIMS_") and "__" in name:
            found[name.removeprefix("TRIMS_").lower().replace("__", ".")] = _yaml_value(value, name)
    return found


def _yaml_value(text: str, place: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: the value is not valid YAML: {error}") from error


def _put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, field = dotted.split(".")
    here = raw
    for name in sections:
        inner = here.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{dotted}: {name} is not a section")
        here = inner
    here[field] = value


def _merge(raw: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put fields of sections into a config's sections; a field that is no section is replaced."""
    for name, value in given.items():
        inner = raw.get(name)
        if isinstance(value, Mapping) and isinstance(inner, dict):
            _merge(inner, value)
        else:
            raw[name] = value


def _explain(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "extra_forbidden":
        hint = nearest_name(str(problem["loc"][-1]), _names_at(problem["loc"][:-1]))
        return f"{place}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    return f"{place}: {message}" + ("" if isinstance(value, dict | BaseModel) else f" (found {value!r})")


def _names_at(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the section at a place in the tree; empty where the place is not a section."""
    here: Any = TrimsConfig
    for part in location:
        field = here.model_fields.get(str(part)) if _is_section(here) else None
        here = _section_in(here) if field is None else field.annotation
    section = here if _is_section(here) else _section_in(here)
    return list(section.model_fields) if section is not None else []


def _section_in(annotation: Any) -> Any:
    """The section class inside `dict[str, Section]` or `Section | None`, if any."""
    return next((inner for inner in getattr(annotation, "__args__", ()) if _is_section(inner)), None)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
