"""What others report that making data and training cost, to stand beside one's own costs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from trims_core.sections import Section
from trims_core.yaml_text import yaml_of

FILE: Final = Path(__file__).with_name("benchmarks") / "published_costs.yaml"
Hours = Annotated[float, Field(gt=0)]


class PublishedCost(Section):
    """One row of one table."""

    method: str
    supervision: str
    """Where the training signal comes from."""
    curation_gpu_hours: Hours
    per_model: bool = False
    """Whether every student needs data of its own."""
    training_gpu_hours: Hours | None = None
    """None: not published."""
    examples: Annotated[int, Field(ge=1)]
    source: Annotated[str, Field(min_length=1)]


@lru_cache
def published_costs() -> tuple[PublishedCost, ...]:
    """All that are known, in the file's order."""
    rows = yaml_of(FILE.read_text(encoding="utf-8"), FILE.name)
    return TypeAdapter(tuple[PublishedCost, ...]).validate_python(tuple(rows))
