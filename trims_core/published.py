"""Published points: what others report under a named profile, to stand beside one's own and no other."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from trims_core.errors import ConfigError
from trims_core.points import CacheName
from trims_core.profiles import profile_names
from trims_core.sections import Section
from trims_core.yaml_text import yaml_of

FILE: Final = Path(__file__).with_name("benchmarks") / "published.yaml"

Counting = Literal["tokens", "canvas", "text", "prompt", "text_after_ten"]
"""tokens: ours, up to the first end token; the others as in a cell's `tpf_as`."""


class PublishedPoint(Section):
    """One number of one table."""

    method: str
    model: str
    profile: str
    accuracy: Annotated[float, Field(ge=0, le=100)]
    """In percent, by the profile's first grader unless the remark says otherwise."""
    tokens_per_forward: Annotated[float | None, Field(gt=0)] = None
    """None: not published; such a point has no place on a curve."""
    tokens_per_second: Annotated[float | None, Field(gt=0)] = None
    counting: Counting | None
    """Of the tokens in either; None: not stated."""
    hardware: Annotated[str, Field(min_length=1)]
    cache: CacheName | None
    """None: not stated."""
    source: Annotated[str, Field(min_length=1)]
    remark: str | None = None

    @model_validator(mode="after")
    def _defined(self) -> Self:
        if self.profile not in profile_names():
            raise ValueError(f"profile {self.profile!r} is not known")
        return self


_POINTS: Final = TypeAdapter(tuple[PublishedPoint, ...])


def points_of(profile: str) -> tuple[PublishedPoint, ...]:
    """What is published under exactly this profile, in the file's order; under one's own file nothing."""
    return tuple(point for point in all_points() if point.profile == profile)


@lru_cache
def all_points() -> tuple[PublishedPoint, ...]:
    """All that are known."""
    return points_in(FILE.read_text(encoding="utf-8"), FILE.name)


def points_in(text: str, place: str) -> tuple[PublishedPoint, ...]:
    """The points of a YAML text: tables whose `points` take over what stands beside them.

    Raises:
        ConfigError: it is no such text, or a point is wrong or lacks something; names table and point.
    """
    tables = yaml_of(text, place)
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise ConfigError(f"{place}: expected a list of tables, each with points")
    found: list[dict[str, Any]] = []
    places: list[str] = []
    for number, table in enumerate(tables, 1):
        rows = table.pop("points", None)
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            raise ConfigError(f"{place}, table {number}: expected points, a list of at least one")
        found += [{**table, **row} for row in rows]
        places += [f"table {number}, point {row}" for row in range(1, len(rows) + 1)]
    try:
        return _POINTS.validate_python(tuple(found))
    except ValidationError as error:
        first = error.errors()[0]
        row, *rest = first["loc"]
        where = f"{places[int(row)]}, {'.'.join(map(str, rest)) or 'the whole'}"
        raise ConfigError(f"{place}, {where}: {first['msg']}") from error
