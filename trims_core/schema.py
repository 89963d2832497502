"""Columns, types and units of every Parquet table, and the only way tables are written and read.

Each file carries its table's name, version, units and provenance in the Parquet metadata under `trims`,
so that a stranger who opens one shard knows what the numbers are. Columns are matched by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from trims_core.errors import SchemaError

SCHEMA_VERSION: Final = 1
_METADATA_KEY: Final = b"trims"


@dataclass(frozen=True)
class Table:
    """One kind of table: its Arrow schema and the unit or meaning of each column."""

    name: str
    schema: pa.Schema
    units: Mapping[str, str] = field(default_factory=dict)
    unique: str | None = None
    """A column whose values occur once."""
    unique_in: Literal["artifact", "file"] = "artifact"


_MESSAGES: Final = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

CORPUS: Final = Table(
    "corpus",
    pa.schema(
        [("id", pa.string()), ("messages", _MESSAGES), ("completion", pa.string()), ("source", pa.string())]
    ),
    {
        "completion": "NFC, no blank lines in front, no white space behind",
        "source": "file name of the input, or data set",
    },
    unique="id",
)
CORPUS_TEXT: Final = ("id", "messages", "completion")
"""What scores and alignments read of a corpus; where a row comes from does not matter to them."""
SCORES: Final = Table(
    "scores",
    pa.schema(
        [
            ("id", pa.string()),
            ("token_ids", pa.list_(pa.int32())),
            ("byte_end", pa.list_(pa.int32())),
            ("nll_nats", pa.list_(pa.float32())),
            ("entropy_nats", pa.list_(pa.float32())),
        ]
    ),
    {
        "token_ids": "teacher's ids, completion only, end of turn last",
        "byte_end": "end offset in the completion's UTF-8 bytes; end of turn repeats the last one",
        "nll_nats": "nats",
        "entropy_nats": "nats; null where the teacher does not give it",
    },
    unique="id",
)
REJECTS: Final = Table(
    "rejects",
    pa.schema([("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())]),
    unique="id",
)
_TOKENS_COLUMNS: Final = (
    ("id", pa.string()),
    ("input_ids", pa.list_(pa.int32())),
    ("prompt_length", pa.int32()),
)
_TOKENS_UNITS: Final = {
    "input_ids": "student's prompt + completion + end of turn",
    "prompt_length": "student tokens",
}
TOKENS: Final = Table("tokens", pa.schema(_TOKENS_COLUMNS), _TOKENS_UNITS, unique="id")
_ALIGNED_COLUMNS: Final = (*_TOKENS_COLUMNS, ("difficulty_nats", pa.list_(pa.float32())))
_ALIGNED_UNITS: Final = {
    **_TOKENS_UNITS,
    "difficulty_nats": "nats per student completion token, end of turn included",
}
ALIGNED: Final = Table("aligned", pa.schema(_ALIGNED_COLUMNS), _ALIGNED_UNITS)
BUCKETS: Final = Table(
    "buckets",
    pa.schema([*_ALIGNED_COLUMNS, ("bucket", pa.list_(pa.uint8()))]),
    {**_ALIGNED_UNITS, "bucket": "1 = hardest … K = easiest, one per completion token"},
    unique="id",
)
ROLLOUTS: Final = Table(
    "rollouts",
    pa.schema(
        [
            ("id", pa.string()),
            ("rollout", pa.int32()),
            ("prompt_digest", pa.string()),
            ("temperature", pa.float64()),
            ("draw_seed", pa.int64()),
            ("text", pa.string()),
            ("finished", pa.bool_()),
            ("n_tokens", pa.int32()),
            ("n_forwards", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
            ("reveal_step", pa.list_(pa.int16())),
            ("logprob", pa.list_(pa.float32())),
        ]
    ),
    {
        "rollout": "0-based number among the answers to the prompt",
        "prompt_digest": "sha256 of the rendered prompt's ids, as little-endian int32",
        "draw_seed": "of the noise of the first forward; null at temperature 0, where none is drawn",
        "n_tokens": "up to and including the first end token; the whole canvas where there is none",
        "n_forwards": "model calls the sequence took part in",
        "token_ids": "student's ids, one per canvas position; the mask's where never revealed",
        "reveal_step": "0-based forward of this sequence at which the position was revealed; -1 never",
        "logprob": "nats, of the revealed token at that forward; null where never revealed",
    },
    unique="id",
    unique_in="file",
)
ROLLOUT_GRADES: Final = Table(
    "rollout_grades",
    pa.schema(
        [
            ("id", pa.string()),
            ("rollout", pa.int32()),
            ("response_digest", pa.string()),
            ("grader", pa.string()),
            ("verdict", pa.string()),
            ("reward", pa.float32()),
            ("extracted", pa.string()),
            ("gold", pa.string()),
        ]
    ),
    {
        "response_digest": "sha256 of the rollout's token_ids, as little-endian int32",
        "verdict": "right, wrong, timeout (the grader gave up), or error (the grader raised)",
        "reward": "1 or 0, or what a grader of the user's own gave; null without a verdict",
        "extracted": "the answer found in the text, normalised; null where there is none",
        "gold": "the right answer in the corpus' completion, normalised; null with a grader of your own",
    },
    unique="id",
    unique_in="file",
)
ROLLOUT_REWARDS: Final = Table(
    "rollout_rewards",
    pa.schema(
        [
            ("id", pa.string()),
            ("rollout", pa.int32()),
            ("name", pa.string()),
            ("weight", pa.float64()),
            ("value", pa.float64()),
        ]
    ),
    {
        "name": "of the reward; one row for each reward of each rollout, by name",
        "weight": "with which it counts in the rollout's reward",
        "value": "what it gave, without its weight; null where it says nothing of the answer",
    },
)
SAMPLES: Final = Table(
    "samples",
    pa.schema(
        [
            ("cache", pa.string()),
            ("threshold", pa.float64()),
            ("sample_id", pa.string()),
            ("prompt", pa.string()),
            ("text", pa.string()),
            ("finished", pa.bool_()),
            ("n_tokens", pa.int32()),
            ("n_tokens_canvas", pa.int32()),
            ("n_tokens_text", pa.int32()),
            ("n_forwards", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
            ("reveal_step", pa.list_(pa.int32())),
            ("confidence", pa.list_(pa.float32())),
            ("entropy", pa.list_(pa.float32())),
        ]
    ),
    {
        "cache": "none (exact), prefix or dual (approximate): which keys and values are kept",
        "threshold": "what the reveal rule in the provenance compares with: a probability, a factor, or nats;"
        " null: one token per forward",
        "n_tokens": "generated tokens up to and including the first end token",
        "n_tokens_canvas": "all canvas positions",
        "n_tokens_text": "re-tokenised text without end tokens",
        "n_forwards": "model calls the sequence took part in",
        "token_ids": "student's ids, one per canvas position; the mask's where never revealed",
        "reveal_step": "the trajectory: forward of this sequence (0-based) at which each canvas position was"
        " revealed, equal steps in one forward; -1 never",
        "confidence": "probability of the revealed token at that forward; null where never revealed",
        "entropy": "nats, of the whole prediction at that forward; null where never revealed",
    },
    unique="sample_id",
    unique_in="file",
)
TIMES: Final = Table(
    "times",
    pa.schema([("sample_id", pa.string()), ("seconds", pa.float64())]),
    {"seconds": "decoding time of the sequence's batch divided by its sequences"},
)
GRADES: Final = Table(
    "grades",
    pa.schema(
        [
            ("sample_id", pa.string()),
            ("grader", pa.string()),
            ("verdict", pa.string()),
            ("extracted", pa.string()),
            ("gold", pa.string()),
        ]
    ),
    {
        "grader": "its name; its version is in the provenance",
        "verdict": "right, wrong, timeout (the grader gave up), or error (the grader raised)",
        "extracted": "the answer found in the text, normalised; null where there is none",
        "gold": "the right answer, normalised",
    },
)
ANALYSED: Final = Table(
    "analysed",
    pa.schema(
        [
            ("sample_id", pa.string()),
            ("verdict", pa.string()),
            ("n_tokens", pa.int32()),
            ("n_steps", pa.int32()),
            ("order_position", pa.float64()),
            ("order_confidence", pa.float64()),
            ("confidence", pa.list_(pa.float32())),
            ("agrees", pa.list_(pa.bool_())),
            ("revealed", pa.list_(pa.int32())),
            ("runs", pa.list_(pa.int32())),
            ("departure_step", pa.int32()),
            ("departure_place", pa.int32()),
            ("departure_confidence", pa.float32()),
        ]
    ),
    {
        "verdict": "of the task's main grader: right, wrong, timeout or error",
        "n_tokens": "tokens of the answer: up to and including the first end token; where all lists end",
        "n_steps": "forwards of the sequence up to the one that revealed the last of them",
        "order_position": "Spearman correlation of reveal step and position, ties at their mean rank; null"
        " where either is constant",
        "order_confidence": "the same of reveal step and confidence at the reveal",
        "confidence": "probability of each token at the forward that revealed it",
        "agrees": "whether the same model's answer with one token per forward has the same token there; null"
        " behind that answer's end",
        "revealed": "tokens of the answer that each forward revealed, the first forward first",
        "runs": "lengths of runs of adjacent positions that one forward revealed, from left to right",
        "departure_step": "0-based forward that first revealed a token which does not agree; null: none does",
        "departure_place": "0-based position of that token, the leftmost of that forward",
        "departure_confidence": "its probability at that forward",
    },
    unique="sample_id",
    unique_in="file",
)
PROPOSALS: Final = Table(
    "proposals",
    pa.schema(
        [
            ("sample_id", pa.string()),
            ("step", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
        ]
    ),
    {
        "step": "forwards before this state; 0 is the canvas with nothing revealed",
        "token_ids": "student's ids, one per canvas position: what was revealed then, and elsewhere what the"
        " student proposed in one forward of the whole canvas",
    },
)
TRAJECTORIES: Final = Table(
    "trajectories",
    pa.schema(
        [
            ("sample_id", pa.string()),
            ("step", pa.int32()),
            ("n_revealed", pa.int32()),
            ("revealed_nats", pa.float64()),
            ("revealed_tokens", pa.int32()),
            ("revealed_reject", pa.string()),
            ("filled_nats", pa.float64()),
            ("filled_tokens", pa.int32()),
            ("filled_reject", pa.string()),
        ]
    ),
    {
        "step": "forwards before this state; 0 is the canvas with nothing revealed",
        "n_revealed": "tokens of the answer that were revealed then",
        "revealed_nats": "teacher's mean NLL per teacher token of the tokens revealed so far, in nats; null"
        " where no text is there yet, or the teacher could not score it",
        "revealed_tokens": "teacher's tokens of that text, end of turn left out",
        "revealed_reject": "why the teacher could not score it; null where it could, or was not asked",
        "filled_nats": "the same of the canvas filled with the student's proposals, up to the first end",
        "filled_tokens": "teacher's tokens of that text, end of turn left out",
        "filled_reject": "why the teacher could not score it; null where it could, or was not asked",
    },
)
ANSWER_DIFFICULTY: Final = Table(
    "answer_difficulty",
    pa.schema(
        [
            ("sample_id", pa.string()),
            ("difficulty_nats", pa.list_(pa.float32())),
            ("order_difficulty", pa.float64()),
            ("reject", pa.string()),
        ]
    ),
    {
        "difficulty_nats": "teacher's NLL of each canvas position's token, aligned over bytes; null where the"
        " position is none of the answer, or its token has no text; null as a whole where it was not scored",
        "order_difficulty": "Spearman correlation of the reveal step with it, ties at their mean rank; null"
        " where either is constant",
        "reject": "why the teacher could not score the answer; null where it could",
    },
    unique="sample_id",
    unique_in="file",
)
GRADED_SAMPLES: Final = Table(
    "samples",
    pa.schema(
        [
            *SAMPLES.schema,
            ("model", pa.string()),
            ("variant", pa.string()),
            ("seed", pa.int64()),
            ("task", pa.string()),
            ("gold", pa.string()),
            ("answer", pa.string()),
            ("correct", pa.bool_()),
            ("seconds", pa.float64()),
        ]
    ),
    {**SAMPLES.units, **TIMES.units, "model": "untuned, or <variant>-s<seed>"},
)
"""The samples of version 0.1: what they are of, their times and verdicts beside them."""
_CORPUS_01: Final = Table(
    "corpus",
    CORPUS.schema,
    {"completion": "NFC-normalised, stripped", "source": "file:line or file:row of the input"},
)
_VERSION_01: Final = {table.name: table for table in (_CORPUS_01, GRADED_SAMPLES)}
"""Tables that were others in version 0.1; they have all of today's columns, so that these can be read."""
_ALL: Final = (
    *(CORPUS, SCORES, REJECTS, TOKENS, ALIGNED, BUCKETS),
    *(ROLLOUTS, ROLLOUT_GRADES, ROLLOUT_REWARDS, SAMPLES, TIMES, GRADES),
    *(ANALYSED, PROPOSALS, TRAJECTORIES, ANSWER_DIFFICULTY),
)
TABLES: Final = {table.name: table for table in _ALL}


def write_table(
    path: Path,
    table: Table,
    columns: Mapping[str, Any] | pa.Table,
    provenance: Mapping[str, Any] | None = None,
) -> int:
    """Write one Parquet file with units and provenance in its metadata; gives back the number of rows.

    The bytes depend only on the arguments (no clock, no host). The caller syncs and records the file.
    """
    about = {
        "table": table.name,
        "schema_version": SCHEMA_VERSION,
        "units": dict(table.units),
        "provenance": dict(provenance or {}),
    }
    schema = table.schema.with_metadata({_METADATA_KEY: json.dumps(about, sort_keys=True).encode()})
    if isinstance(columns, pa.Table):
        data = columns.select(table.schema.names).cast(table.schema).replace_schema_metadata(schema.metadata)
    else:
        data = pa.Table.from_pydict({name: columns[name] for name in table.schema.names}, schema=schema)
    pq.write_table(data, path, compression="zstd")
    return int(data.num_rows)


def read_table(path: Path, table: Table) -> pa.Table:
    """The rows of one file, columns in the table's order; of a file of version 0.1 today's columns.

    Raises:
        SchemaError: another table, version, column set, type or unit; names column and both types.
    """
    file = pq.ParquetFile(path)
    check_schema(path, file.schema_arrow, table)
    return file.read(columns=table.schema.names).select(table.schema.names)


def provenance(path: Path) -> dict[str, Any]:
    """What a file says about itself: table, schema_version, units, provenance. Empty for foreign files."""
    metadata = pq.read_schema(path).metadata or {}
    about: dict[str, Any] = json.loads(metadata.get(_METADATA_KEY, b"{}"))
    return about


def check_schema(path: Path, found: pa.Schema, table: Table) -> None:
    """Raises SchemaError unless `found` is this table's schema, today's or version 0.1's (order of columns is
    free)."""
    about = json.loads((found.metadata or {}).get(_METADATA_KEY, b"{}"))
    old = _VERSION_01.get(table.name)
    if old is not None and about.get("units") == dict(old.units):
        table = old
    if about.get("table") != table.name or about.get("schema_version") != SCHEMA_VERSION:
        raise SchemaError(
            f"{path}: table {about.get('table')!r} version {about.get('schema_version')!r};"
            f" expected {table.name!r} version {SCHEMA_VERSION}. Redo the stage with --refresh"
        )
    if about.get("units") != dict(table.units):
        raise SchemaError(f"{path}: units {about.get('units')}; expected {dict(table.units)}")
    names = set(found.names)
    wanted = set(table.schema.names)
    if names != wanted:
        raise SchemaError(
            f"{path}: missing columns {sorted(wanted - names)}, unexpected columns {sorted(names - wanted)};"
            f" expected {table.schema.names}"
        )
    for name in table.schema.names:
        if found.field(name).type != table.schema.field(name).type:
            raise SchemaError(
                f"{path}: column {name!r} is {found.field(name).type},"
                f" expected {table.schema.field(name).type}"
            )
