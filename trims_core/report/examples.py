"""Examples for the eye: corpus answers cut into coloured pieces, and decoded answers side by side.

Which examples are shown is decided by a hash of their ids, never by how they came out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trims_core.keyed import chosen
from trims_core.points import middle_point, parallelism_order
from trims_core.report.cells import Cell, method_of
from trims_core.report.graded_sweeps import read_rows
from trims_core.report.intervals import rounded
from trims_core.schema import CORPUS, GRADES, SAMPLES, TABLES, TOKENS, provenance

_CONTEXT_GROUPS: Final = 4
_REPLACEMENT: Final = "�"


class Decodes(Protocol):
    """A tokenizer, as far as pieces need one."""

    def decode(self, token_ids: list[int], **options: Any) -> str:
        """The text of these tokens."""


def pieces(token_ids: Sequence[int], tokenizer: Decodes) -> list[tuple[int, int, str]]:
    """The answer as (first token, one past the last token, text), the texts joined being the whole text.

    A piece is one token, or several where a character is split over tokens (byte-level vocabularies).
    Covered: byte-level tokenizers, and those that drop a leading space when a token is decoded alone (each
    piece is decoded behind the pieces before it). Not covered: tokenizers that look further back than that.
    """
    groups: list[tuple[int, int, str]] = []
    start = 0
    for end in range(1, len(token_ids) + 1):
        context = groups[-_CONTEXT_GROUPS][0] if len(groups) >= _CONTEXT_GROUPS else 0
        before = _text(token_ids[context:start], tokenizer)
        text = _text(token_ids[context:end], tokenizer)[len(before) :]
        if text.endswith(_REPLACEMENT) and end < len(token_ids):
            continue
        groups.append((start, end, text))
        start = end
    return groups


def _text(token_ids: Sequence[int], tokenizer: Decodes) -> str:
    if not token_ids:
        return ""
    return tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def corpus_examples(
    files: Sequence[Path], corpus_files: Sequence[Path], tokenizer: Decodes, count: int
) -> list[dict[str, Any]]:
    """Corpus examples as pieces, with bucket and difficulty where there are some.

    A piece of several tokens shows its hardest bucket; its difficulty, in nats, is the sum over them.

    Args:
        files: of schema.BUCKETS or schema.TOKENS.
    """
    table = TABLES[provenance(files[0])["table"]] if files else TOKENS
    wanted = chosen(itertools.chain.from_iterable(map(_ids, files)), count)
    rows = _rows(files, table, "id", wanted)
    sources = _rows(corpus_files, CORPUS, "id", wanted)
    out = []
    for name in wanted:
        row = rows[name]
        completion = row["input_ids"][row["prompt_length"] :]
        out.append(
            {
                "id": name,
                "prompt": sources[name]["messages"][-1]["content"],
                "n_tokens": len(completion),
                "pieces": [
                    {
                        "text": text,
                        **_difficulty(row, start, end),
                        "n_tokens": end - start,
                    }
                    for start, end, text in pieces(completion, tokenizer)
                ],
            }
        )
    return out


def _difficulty(row: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
    """Of some tokens of a row; nothing where no teacher scored it."""
    if "bucket" not in row:
        return {}
    return {
        "bucket": min(row["bucket"][start:end]),
        "difficulty_nats": rounded(sum(row["difficulty_nats"][start:end])),
    }


def answers_side_by_side(cells: Sequence[Cell], count: int) -> dict[str, Any]:
    """What each method (its first seed) answered to the same problems of one task, at one threshold.

    The threshold is the middle one of those that all methods have, one token per forward counted as the
    least parallel; the problems are chosen by hash.
    """
    mine = of_first_seeds(cells)
    thresholds = shared_thresholds(mine)
    if not thresholds:
        return {"threshold": None, "problems": []}
    threshold = middle_point(cells[0].rule, thresholds)
    wanted = chosen(mine[0].sample_ids, count)
    by_model = {cell.model: graded_rows(cell, wanted) for cell in mine if cell.threshold == threshold}
    return {"threshold": threshold, "problems": [_problem(name, by_model) for name in wanted]}


def of_first_seeds(cells: Sequence[Cell]) -> list[Cell]:
    """Those of each method's first model."""
    first: dict[str, str] = {}
    for cell in cells:
        first.setdefault(method_of(cell), cell.model)
    return [cell for cell in cells if cell.model == first[method_of(cell)]]


def shared_thresholds(cells: Sequence[Cell]) -> list[float | None]:
    """The thresholds at which every model has a cell, from the least parallel to the most."""
    of_model: dict[str, set[float | None]] = {}
    for cell in cells:
        of_model.setdefault(cell.model, set()).add(cell.threshold)
    return sorted(set.intersection(*of_model.values()), key=partial(parallelism_order, cells[0].rule))


def graded_rows(cell: Cell, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The wanted samples of a cell with what their grader said, by problem."""
    samples = _rows([samples for samples, _ in cell.files], SAMPLES, "sample_id", wanted)
    grades = _rows([graded for _, graded in cell.files], GRADES, "sample_id", wanted)
    return {
        name: {
            **sample,
            "gold": grades[name]["gold"],
            "answer": grades[name]["extracted"],
            "correct": grades[name]["verdict"] == "right",
            "verdict": grades[name]["verdict"],
        }
        for name, sample in samples.items()
    }


def verdicts_of(cell: Cell) -> dict[str, str]:
    """What the grader said of every answer of a cell, by problem."""
    tables = [
        read_rows(graded, GRADES).select(["sample_id", "verdict"]).to_pydict() for _, graded in cell.files
    ]
    return {
        name: verdict
        for rows in tables
        for name, verdict in zip(rows["sample_id"], rows["verdict"], strict=True)
    }


def _problem(name: str, by_model: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    shown = ("text", "answer", "correct", "verdict", "finished", "n_tokens", "n_forwards")
    one = next(iter(by_model.values()))[name]
    return {
        "id": name,
        "prompt": one["prompt"],
        "gold": one["gold"],
        "answers": [
            {"model": model, **{key: rows[name][key] for key in shown}} for model, rows in by_model.items()
        ],
    }


def _rows(paths: Sequence[Path], table: Any, column: str, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The wanted rows of several files by id; only files that hold one are read whole."""
    names = pa.array(list(wanted), pa.string())
    out: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not set(wanted).intersection(_ids(path, column)):
            continue
        data = read_rows(path, table)
        mask = pc.is_in(data.column(column), value_set=names)
        out.update({row[column]: row for row in data.filter(mask).to_pylist()})
    return out


def _ids(path: Path, column: str = "id") -> list[str]:
    ids: list[str] = pq.read_table(path, columns=[column]).column(column).to_pylist()
    return ids
