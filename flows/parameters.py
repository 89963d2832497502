"""What the flow's parameters are in Prefect's UI: menus of stages, and the settings as one nested form."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import WithJsonSchema

from trims_core.config import StageName, TrimsConfig

_NOT_IN_A_FORM: Final = ("$defs", "required", "default", "title", "additionalProperties")


def settings_form() -> dict[str, Any]:
    """The JSON schema of TrimsConfig with every field optional and without defaults.

    A form sends what it shows as a default, and a default would replace the file's value. Unknown fields
    pass here: the run refuses them, with the nearest name.
    """
    schema = TrimsConfig.model_json_schema()
    form: dict[str, Any] = _partial(schema, schema["$defs"])
    return form


def _partial(schema: Any, sections: dict[str, Any]) -> Any:
    """A schema with its references filled in, nothing of an object required."""
    if isinstance(schema, list):
        return [_partial(inner, sections) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = sections[schema["$ref"].rpartition("/")[2]]
        return _partial({**named, **{key: value for key, value in schema.items() if key != "$ref"}}, sections)
    form = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            form[key] = {name: _partial(one, sections) for name, one in value.items()}
        elif key == "oneOf":  # nothing is required, so that a value may fit several
            form["anyOf"] = _partial(value, sections)
        elif key not in _NOT_IN_A_FORM or (key == "additionalProperties" and value is not False):
            form[key] = _partial(value, sections)
    return form


Place: TypeAlias = StageName | str
"""A stage, from a menu, or a node's name."""
SomeSettings: TypeAlias = Annotated[dict[str, Any] | None, WithJsonSchema(settings_form())]
"""Sections of TrimsConfig with some of their fields."""
