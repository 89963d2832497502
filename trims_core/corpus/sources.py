"""Raw rows from JSONL, gzipped JSONL, Parquet or a hub data set, streamed with their places.

What cannot be read (a broken line, a torn file) is noted as a problem and reading goes on, so that one error
names them all. Blank lines of JSONL files are skipped.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trims_core.config import CorpusConfig
from trims_core.corpus.problems import Problems
from trims_core.hub_data import hub_data

_PARQUET_BATCH: Final = 256
_READ_AHEAD_BYTES: Final = 1 << 20
"""Of a column: Parquet is read page by page, not a row group at a time."""
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the input has it."""

    place: str
    """file:line (JSONL) or file:row (Parquet), counted from 1; full path, for messages."""
    source: str
    """The file's name without its folder, or the data set's: moving the input changes no row, nor does a row
    above."""
    values: Mapping[str, Any]


def read_rows(config: CorpusConfig, problems: Problems) -> Iterator[RawRow]:
    """All readable rows in order: files as listed in `path`, else the hub data set."""
    if config.path is not None:
        for name in config.path:
            yield from _file_rows(Path(name), Path(name).name, config, problems)
        return
    source = f"{config.hub}[{config.split}]"
    data = hub_data(config.hub or "", config.hub_config, config.split, config.revision)
    if data.is_plain:
        for path in data.paths():
            yield from _file_rows(path, source, config, problems)
    else:
        yield from (
            RawRow(f"{source}:{number}", source, values) for number, values in enumerate(data.rows(), 1)
        )


def _file_rows(path: Path, source: str, config: CorpusConfig, problems: Problems) -> Iterator[RawRow]:
    if path.name.endswith(".parquet"):
        yield from _parquet_rows(path, source, config, problems)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _jsonl_rows(path, source, problems)
    else:
        problems.unusable(str(path), "unknown kind of file", "expected .jsonl, .jsonl.gz or .parquet")


def wanted_columns(config: CorpusConfig) -> tuple[str, ...]:
    """The columns that hold the text, by config; the id column is optional everywhere."""
    if config.prompt_column is not None and config.completion_column is not None:
        return (config.prompt_column, config.completion_column)
    return (config.messages_column,)


def _jsonl_rows(path: Path, source: str, problems: Problems) -> Iterator[RawRow]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}:{number}"
                text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
                if text:
                    values = _parse(text, place, problems)
                    if values is not None:
                        yield RawRow(place, source, values)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problems.unusable(f"{path}:{number + 1}", f"damaged gzip file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(str(path), f"cannot be read ({error.strerror or error})", "check corpus.path")


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def _parse(text: bytes, place: str, problems: Problems) -> Mapping[str, Any] | None:
    try:
        values = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        problems.unusable(place, f"not UTF-8 (byte {error.start} of the line)", "save the file as UTF-8")
        return None
    except (json.JSONDecodeError, RecursionError) as error:
        problems.unusable(place, f"not valid JSON ({error})", "correct or delete the line")
        return None
    if not isinstance(values, dict):
        problems.unusable(place, f"a JSON {type(values).__name__}", "expected one object {…} per line")
        return None
    return values


def _parquet_rows(path: Path, source: str, config: CorpusConfig, problems: Problems) -> Iterator[RawRow]:
    """The columns that are asked for; others, however wide, are not read."""
    number, wanted = 0, wanted_columns(config)
    try:
        with pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES) as file:
            known = file.schema_arrow.names
            missing = [name for name in wanted if name not in known]
            if missing:
                problems.unusable(str(path), f"no column {missing[0]!r}", f"the file has: {', '.join(known)}")
                return
            columns = [name for name in dict.fromkeys([*wanted, config.id_column]) if name in known]
            for batch in file.iter_batches(_PARQUET_BATCH, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path}:{number}", source, values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        problems.unusable(f"{path}:{number + 1}", f"damaged Parquet file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(f"{path}:{number + 1}", f"cannot be read ({error})", "check corpus.path")
