"""Raw rows from JSONL, gzipped JSONL, Parquet or a hub data set, streamed with their places.

What cannot be read (a broken line, a torn file) is noted as a problem and reading goes on, so that one error
names them all. Blank lines of JSONL files are skipped.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trims_core.config import CorpusConfig
from trims_core.corpus.problems import Problems
from trims_core.errors import ConfigError

_PARQUET_BATCH: Final = 1024
_COMMIT: Final = re.compile(r"^[0-9a-f]{40}$")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the input has it."""

    place: str
    """file:line (JSONL), file:row (Parquet) or name:row (hub), counted from 1; full path, for messages."""
    source: str
    """The file's name without its folder, or the data set's: moving the input changes no row, nor does a row
    above."""
    values: Mapping[str, Any]


def read_rows(config: CorpusConfig, problems: Problems) -> Iterator[RawRow]:
    """All readable rows in order: files as listed in `path`, else the hub data set."""
    if config.path is None:
        yield from _hub_rows(config)
        return
    for name in config.path:
        path = Path(name)
        if path.name.endswith(".parquet"):
            yield from _parquet_rows(path, wanted_columns(config), problems)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _jsonl_rows(path, problems)
        else:
            problems.unusable(name, "unknown kind of file", "expected .jsonl, .jsonl.gz or .parquet")


def wanted_columns(config: CorpusConfig) -> tuple[str, ...]:
    """The columns that hold the text, by config; the id column is optional everywhere."""
    if config.prompt_column is not None and config.completion_column is not None:
        return (config.prompt_column, config.completion_column)
    return (config.messages_column,)


def _jsonl_rows(path: Path, problems: Problems) -> Iterator[RawRow]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}:{number}"
                text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
                if text:
                    values = _parse(text, place, problems)
                    if values is not None:
                        yield RawRow(place, path.name, values)
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


def _parquet_rows(path: Path, wanted: Sequence[str], problems: Problems) -> Iterator[RawRow]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            missing = [name for name in wanted if name not in known]
            if missing:
                problems.unusable(str(path), f"no column {missing[0]!r}", f"the file has: {', '.join(known)}")
                return
            for batch in file.iter_batches(_PARQUET_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path}:{number}", path.name, values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        problems.unusable(f"{path}:{number + 1}", f"damaged Parquet file ({error})", "fetch the file again")
    except OSError as error:
        problems.unusable(f"{path}:{number + 1}", f"cannot be read ({error})", "check corpus.path")


def check_version(files: Sequence[Mapping[str, str]], name: str, commit: str | None) -> None:
    """Raises ConfigError where the hub could not be reached and another version lay in the local cache."""
    loaded = [file["filename"] for file in files]
    if commit is not None and _COMMIT.match(commit) and loaded and not any(commit in path for path in loaded):
        raise ConfigError(
            f"{name}: commit {commit[:12]} is wanted, and the hub could not be reached; the local cache gave"
            f" another version ({loaded[0]}). Connect, or set the path of a local copy"
        )


def _hub_rows(config: CorpusConfig) -> Iterator[RawRow]:
    from datasets import load_dataset

    name = f"{config.hub}[{config.split}]"
    try:
        rows = load_dataset(config.hub, config.hub_config, split=config.split, revision=config.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"corpus.hub: {name} cannot be loaded ({error}); check hub, hub_config, split and the connection,"
            " or download it and set corpus.path"
        ) from error
    check_version(rows.cache_files, name, config.revision)
    known = list(rows.column_names)
    missing = [column for column in wanted_columns(config) if column not in known]
    if missing:
        raise ConfigError(
            f"corpus: {name} has no column {missing[0]!r}; it has {', '.join(known)}."
            " Set corpus.messages_column, or prompt_column and completion_column"
        )
    keep = [column for column in (*wanted_columns(config), config.id_column) if column in known]
    for number, values in enumerate(rows.select_columns(keep), start=1):
        yield RawRow(f"{name}:{number}", name, values)
