"""What settings are made of: the base of all sections, and marks that say how a field enters keys.

Fields marked `OPERATIONAL` say where or how fast something is computed (paths, batch sizes, reject
budgets); they do not change results and never enter a fingerprint. Every other field does.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from trims_core.paths import expanded

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class Operational:
    """Marks a field that does not change results."""


OPERATIONAL: Final = Operational()


class _ByDigest(Operational):
    """Marks a field that says where an input lies: what lies there counts, by its digest."""


BY_DIGEST: Final = _ByDigest()


class _Later:
    """Marks a field that came later: at its default it is left out, so that keys stay what they were."""


LATER: Final = _Later()


def as_tuple(value: object) -> object:
    """One value where settings have several."""
    return (value,) if isinstance(value, str | int | float) else value


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _path(value: object) -> object:
    return expanded(value) if isinstance(value, str) else value


FilePath = Annotated[str, BeforeValidator(_path)]
"""A file or folder: `~` and `$NAME` are filled in, and a relative one starts at the working folder."""
Paths = Annotated[tuple[FilePath, ...], BeforeValidator(as_tuple)]


class Section(BaseModel):
    """Base of all settings: immutable; unknown keys and values of other types refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _lists(cls, value: object) -> object:
        """YAML and JSON have lists where settings have tuples."""
        return _tuples(value)

    def result_fields(self) -> dict[str, Any]:
        """The fields that change results, as JSON-able values, nested sections included."""
        out: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            marks = field.metadata
            if any(isinstance(mark, Operational) for mark in marks):
                continue
            if value == field.default and any(isinstance(mark, _Later) for mark in marks):
                continue
            out[name] = plain(value)
        return out


def plain(value: Any) -> Any:
    """Settings as values that JSON has."""
    if isinstance(value, Section):
        return value.result_fields()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
