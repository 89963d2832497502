"""Reading problems: kinds of files, limits, and errors that name the place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trims_core.benchmarks import get_benchmark
from trims_core.errors import ConfigError, CorpusError, DuplicateIdError, InputError
from trims_core.sweep_sections import TaskConfig

ROWS: list[dict[str, Any]] = [
    {"id": f"p{i}", "question": f"Q{i}", "answer": f"The answer is {i}."} for i in range(5)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def _load(*paths: Path, limit: int | None = None) -> list[str]:
    task = TaskConfig(benchmark="demo", path=tuple(map(str, paths)), limit=limit)
    return [problem.id for problem in get_benchmark("demo").load(task)]


def test_plain_gzipped_and_parquet_rows_are_the_same_problems(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode(), mtime=0))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    found = [_load(tmp_path / name) for name in ("a.jsonl", "a.jsonl.gz", "a.parquet")]
    assert found == [[row["id"] for row in ROWS]] * 3


def test_a_limit_takes_the_first_ones_over_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "b.jsonl").write_text(LINES.replace('"p', '"q'))
    assert _load(tmp_path / "a.jsonl", tmp_path / "b.jsonl", limit=6) == ["p0", "p1", "p2", "p3", "p4", "q0"]


def test_all_broken_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": 5, "answer": "The answer is 1."}\nno json\n["a"]\n{"answer": "x"}\n')
    with pytest.raises(CorpusError) as caught:
        _load(path)
    message = str(caught.value)
    assert "4 row(s) cannot be used" in message
    assert "a.jsonl:1: 'question' is int 5; expected text" in message
    assert "a.jsonl:2: not valid JSON" in message
    assert "a.jsonl:3: a JSON list; expected one object" in message
    assert "a.jsonl:4: " in message


def test_an_id_that_occurs_twice_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "b.jsonl").write_text(LINES)
    with pytest.raises(
        DuplicateIdError, match=r"b\.jsonl:1: id 'p0' was already used at .*a\.jsonl:1, with the same"
    ):
        _load(tmp_path / "a.jsonl", tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.jsonl", b"", CorpusError, "no problems"),
        ("a.txt", b"x", CorpusError, r"unknown kind of file; expected \.jsonl"),
        ("a.csv", b"question,id\nQ,1\n", CorpusError, r"a\.csv: no column 'answer'"),
        ("a.csv", b"question,answer\nQ\n", CorpusError, r"a\.csv:2: 1 values; expected 2, as in line 1"),
        ("a.csv", b'question,answer\nQ,"x', CorpusError, r"a\.csv:2: not valid CSV"),
        ("a.csv", b"question,answer\n\xe9,x\n", CorpusError, r"a\.csv:\d: not valid CSV"),
        ("a.csv.gz", b"plain", CorpusError, "damaged"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:60], CorpusError, "damaged"),
        ("a.jsonl.gz", b"plain", CorpusError, "damaged"),
        ("a.jsonl", b"\xff\xfe", CorpusError, "UTF-16"),
        ("a.jsonl", b"\xe9", CorpusError, r"a\.jsonl:1: not UTF-8"),
        ("a.parquet", b"PAR1 no", CorpusError, "damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, error: type[InputError], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        _load(path)
    assert name in str(caught.value)


def test_a_missing_file_is_a_setting_to_correct(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: no such file"):
        _load(tmp_path / "none.jsonl")


def test_an_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'gsm8' is not known; did you mean 'gsm8k'\?"):
        get_benchmark("gsm8")
