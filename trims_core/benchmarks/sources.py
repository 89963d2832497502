"""Rows of a benchmark from JSONL, gzipped JSONL, Parquet or a hub data set, each with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trims_core.errors import ConfigError, CorpusError
from trims_core.hub_data import hub_data

_SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".parquet")


class BrokenRowError(ValueError):
    """One row of a benchmark cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Source:
    """Local files (`path`, in their order) or a hub data set."""

    path: tuple[str, ...] | None = None
    hub: str | None = None
    hub_config: str | None = None
    split: str = "test"
    revision: str | None = None

    def text(self) -> str:
        """For messages."""
        if self.path is not None:
            return ", ".join(self.path)
        return f"{self.hub}/{self.hub_config or 'default'} split {self.split}"


@dataclass(frozen=True)
class Row:
    """One row as it was read."""

    place: str
    """`file:line` or `file:row`, counted from 1; a hub's file is the one in the local cache."""
    content: str | Mapping[str, Any]

    def values(self) -> Mapping[str, Any]:
        """The row's columns. Raises: BrokenRowError where a line is no JSON object."""
        if not isinstance(self.content, str):
            return self.content
        try:
            values = json.loads(self.content)
        except json.JSONDecodeError as error:
            raise BrokenRowError(f"not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise BrokenRowError(f"expected a JSON object, found {type(values).__name__}")
        return values


def read_rows(source: Source) -> Iterator[Row]:
    """The rows in order, read as they are asked for.

    Raises:
        ConfigError: a file is missing or of unknown kind, or the hub does not give the data set.
        CorpusError: a file is damaged.
    """
    if source.path is not None:
        yield from _file_rows([Path(name) for name in source.path])
        return
    data = hub_data(source.hub or "", source.hub_config, source.split, source.revision)
    if data.is_plain:
        yield from _file_rows(data.paths())
    else:
        yield from (
            Row(f"{source.text()}, row {number}", values) for number, values in enumerate(data.rows(), 1)
        )


def _file_rows(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; expected a benchmark's rows. Correct the task's path")
        if not path.name.endswith(_SUFFIXES):
            raise ConfigError(f"{path}: unknown kind of file; known: {', '.join(_SUFFIXES)}")
        yield from _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield Row(f"{path}:{number}", line)
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{path}: damaged ({error}); expected UTF-8 lines of JSON. Fetch it again"
        ) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(path).iter_batches()
        number = 0
        for batch in batches:
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path}:{number}", values)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{path}: damaged ({error}); expected a Parquet file. Fetch it again") from error
