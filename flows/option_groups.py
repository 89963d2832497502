"""Options of a command from dataclasses: every field of a group becomes an option, its help in the metadata.

Commands that share many options name the group once, and the defaults stay where they are read.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from trims_core.errors import ConfigError
from trims_core.paths import path_given


def flattened(**panels: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces each named parameter, a dataclass, by the options of its fields.

    Args:
        panels: parameter -> heading of its options in the help.
    """
    return lambda command: _flattened(command, panels)


def _flattened(command: Callable[..., None], panels: Mapping[str, str]) -> Callable[..., None]:
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in panels:
            groups[name] = hints[name]
            parameters += _options(hints[name], panels[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        made = {
            name: group(
                **{item.name: _value(item, given.pop(item.name)) for item in dataclasses.fields(group)}
            )
            for name, group in groups.items()
        }
        command(**made, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _options(group: type[Any], panel: str) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    options = []
    for item in dataclasses.fields(group):
        repeated = get_origin(hints[item.name]) is tuple
        option = typer.Option(help=item.metadata["help"], rich_help_panel=panel)
        options.append(
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if repeated else item.default,
                annotation=Annotated[list[str] | None if repeated else hints[item.name], option],
            )
        )
    return options


def _value(item: dataclasses.Field[Any], given: Any) -> Any:
    """Repeated options arrive as a list, or as None where there are none; groups hold tuples."""
    return tuple(given or ()) if isinstance(item.default, tuple) else given


def finite(parameter: typer.CallbackParam, value: float) -> float:
    """A callback for numbers. Raises: ConfigError for NaN and infinity."""
    if not math.isfinite(value):
        raise ConfigError(f"--{parameter.name} {value}: expected a finite number")
    return value


def filled_in(parameter: typer.CallbackParam, value: Any) -> Any:
    """A callback for paths: `~` and `$NAME` filled in, where no shell did so. Raises: ConfigError."""
    if isinstance(value, list | tuple):
        return [filled_in(parameter, one) for one in value]
    return None if value is None else Path(path_given(str(value), str(parameter.name)))
