"""Rows from JSON lines, CSV, both also gzipped, Parquet or a hub data set, streamed with their places.

What cannot be read (a broken line, a torn file) is noted as a problem and reading goes on, so that one error
names them all. Only the columns that are asked for matter: of Parquet no other one is read, of a line of JSON
no other one can make it unusable, as long as it is JSON. Blank lines and a byte order mark are skipped. CSV
has its columns' names in the first line; all its values are text.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final

from trims_core.errors import ConfigError
from trims_core.hub_data import hub_data
from trims_core.paths import located
from trims_core.raw_rows.fields import Unreadable, UnusableRowError
from trims_core.raw_rows.problems import Problems

_PARQUET_BATCH: Final = 256
_READ_AHEAD_BYTES: Final = 1 << 20
"""Of a column: Parquet is read page by page, not a row group at a time."""
_MOST_DIGITS: Final = 4300
"""Python converts no longer whole numbers, whose cost is quadratic."""


@dataclass(frozen=True)
class Source:
    """Local files (`path`, in their order) or a split of a hub data set."""

    path: tuple[str, ...] | None = None
    hub: str | None = None
    hub_config: str | None = None
    split: str = "test"
    revision: str | None = None

    def text(self) -> str:
        """For messages."""
        return f"{self.hub}[{self.split}]" if self.path is None else ", ".join(self.path)


@dataclass(frozen=True)
class Columns:
    """The columns that are read of a row."""

    needed: tuple[str, ...]
    also: tuple[str, ...] = ()
    """Read where they are there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the input has it."""

    place: str
    """file:line (JSON lines, CSV) or file:row (Parquet), counted from 1; full path, for messages."""
    source: str
    """The file's name without its folder, or the data set's: moving the input changes no row, nor does a row
    above."""
    values: Mapping[str, Any]


def read_rows(source: Source, columns: Columns, problems: Problems) -> Iterator[Row]:
    """All readable rows in order, read as they are asked for.

    Raises:
        ConfigError: a file that is not there, or what the hub refuses.
    """
    if source.path is not None:
        for name in source.path:
            yield from _file_rows(Path(name), Path(name).name, columns, problems)
        return
    data = hub_data(source.hub or "", source.hub_config, source.split, source.revision)
    if data.is_plain:
        for path in data.paths():
            yield from _file_rows(path, source.text(), columns, problems)
    else:
        for number, values in enumerate(data.rows(), 1):
            yield Row(f"{source.text()}:{number}", source.text(), values)


def _file_rows(path: Path, source: str, columns: Columns, problems: Problems) -> Iterator[Row]:
    if not path.exists():
        raise ConfigError(f"{located(path)}: no such file; expected rows. Correct the path in the config")
    if path.name.endswith(".parquet"):
        yield from _parquet_rows(path, source, columns, problems)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _json_rows(path, source, problems)
    elif path.name.endswith((".csv", ".csv.gz")):
        yield from _csv_rows(path, source, columns, problems)
    else:
        problems.unusable(
            str(path), "unknown kind of file", "expected .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet"
        )


def _json_rows(path: Path, source: str, problems: Problems) -> Iterator[Row]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}:{number}"
                if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    problems.unusable(str(path), "UTF-16", "save the file as UTF-8")
                    return
                text = line.removeprefix(codecs.BOM_UTF8).strip() if number == 1 else line.strip()
                if not text:
                    continue
                try:
                    yield Row(place, source, _object_of(text))
                except UnusableRowError as error:
                    problems.unusable(place, error.what, error.remedy)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problems.unusable(f"{path}:{number + 1}", f"damaged gzip file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(located(path), f"cannot be read ({error.strerror or error})", "check the path")


def _csv_rows(path: Path, source: str, columns: Columns, problems: Problems) -> Iterator[Row]:
    line = 0
    try:
        with TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:  # type: ignore[arg-type]
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            if names and (wrong := _wrong_columns(names, columns)):
                problems.unusable(str(path), *wrong)
                return
            line = reader.line_num
            for values in reader:
                place, line = f"{path}:{line + 1}", reader.line_num
                if len(values) == len(names):
                    yield Row(place, source, dict(zip(names, values, strict=True)))
                elif values:
                    problems.unusable(place, f"{len(values)} values", f"expected {len(names)}, as in line 1")
    except (csv.Error, UnicodeDecodeError) as error:
        problems.unusable(f"{path}:{line + 1}", f"not valid CSV ({error})", "correct it; UTF-8 is expected")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problems.unusable(f"{path}:{line + 1}", f"damaged gzip file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(located(path), f"cannot be read ({error.strerror or error})", "check the path")


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def _object_of(line: bytes) -> Mapping[str, Any]:
    """The JSON object of a line. Raises: UnusableRowError."""
    try:
        values = _parsed(line.decode())
    except UnicodeDecodeError as error:
        raise UnusableRowError(
            f"not UTF-8 (byte {error.start} of the line)", "save the file as UTF-8"
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnusableRowError(f"not valid JSON ({error})", "correct or delete the line") from error
    if not isinstance(values, dict):
        raise UnusableRowError(f"a JSON {type(values).__name__}", "expected one object {…} per line")
    return values


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a whole number that Python does not convert: looked for only where there is one
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        found |= {
            name: Unreadable(f"given {names.count(name)} times") for name in found if names.count(name) > 1
        }
    return found


def _whole_number(text: str) -> int | Unreadable:
    return int(text) if len(text) <= _MOST_DIGITS else Unreadable(f"a whole number of {len(text)} digits")


def _parquet_rows(path: Path, source: str, columns: Columns, problems: Problems) -> Iterator[Row]:
    """The columns that are asked for; others, however wide or odd, are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES) as file:
            known = file.schema_arrow.names
            if wrong := _wrong_columns(known, columns):
                problems.unusable(str(path), *wrong)
                return
            wanted = [name for name in dict.fromkeys((*columns.needed, *columns.also)) if name in known]
            for batch in file.iter_batches(_PARQUET_BATCH, columns=wanted):
                for values in _values_of(batch):
                    number += 1
                    yield Row(f"{path}:{number}", source, values)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        problems.unusable(f"{path}:{number + 1}", f"damaged Parquet file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(f"{located(path)}:{number + 1}", f"cannot be read ({error})", "check the path")


def _wrong_columns(known: Sequence[str], columns: Columns) -> tuple[str, str] | None:
    """What is wrong with a file's columns and what to do."""
    for name in columns.needed:
        if name not in known:
            return f"no column {name!r}", f"the file has: {', '.join(known)}"
    for name in (*columns.needed, *columns.also):
        if known.count(name) > 1:
            return f"{known.count(name)} columns {name!r}", "expected one; rename or drop the others"
    return None


def _values_of(batch: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a batch as Python values; one that has none (text that is not UTF-8, a year 12,000) says so
    where it is asked for."""
    import pyarrow as pa

    failures = (pa.ArrowException, ValueError, ArithmeticError, LookupError, TypeError)
    try:
        rows = batch.to_pylist()
    except failures:
        for number in range(batch.num_rows):
            values = {}
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    values[name] = column[number].as_py()
                except failures as error:
                    values[name] = Unreadable(f"a value that cannot be read ({error})")
            yield values
        return
    yield from rows
