"""Rows of corpora and benchmarks, read by the same reader: columns that nobody asked for do no harm."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trims_core.benchmarks import get_benchmark
from trims_core.config import CorpusConfig
from trims_core.corpus.examples import to_example
from trims_core.corpus.stage import corpus_rows
from trims_core.errors import CorpusError, TrimsError
from trims_core.raw_rows import Problems, Row, UnusableRowError
from trims_core.sweep_sections import TaskConfig

ROW = {"id": "r0", "question": "1+1?", "answer": "The answer is 2."}
LONG = "9" * 5000


def as_corpus(path: Path) -> list[str]:
    """Ids of the file's examples. Raises: InputError."""
    config = CorpusConfig(path=str(path), prompt_column="question", completion_column="answer")
    problems, found = Problems("corpus"), []
    for row in corpus_rows(config, problems):
        try:
            example = to_example(row, config)
            assert example is not None
            found.append(example.id)
        except UnusableRowError as error:
            problems.unusable(row.place, error.what, error.remedy)
    if problems:
        raise problems.error()
    return found


def as_benchmark(path: Path) -> list[str]:
    """Ids of the file's problems. Raises: InputError."""
    return [
        problem.id for problem in get_benchmark("demo").load(TaskConfig(benchmark="demo", path=str(path)))
    ]


READERS = pytest.mark.parametrize("read", [as_corpus, as_benchmark])
Read = Callable[[Path], list[str]]


def table(path: Path, **columns: pa.Array) -> Path:
    """One row with these columns too."""
    pq.write_table(pa.table({name: [value] for name, value in ROW.items()} | columns), path)
    return path


def not_utf8() -> pa.Array:
    data = pa.py_buffer(b"caf\xe9")
    offsets = pa.py_buffer(b"\0\0\0\0\4\0\0\0")
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])


def odd_columns() -> dict[str, pa.Array]:
    return {
        "year": pa.array([2**40], pa.timestamp("s")),
        "zone": pa.array([0], pa.timestamp("s", "Mars/Olympus")),
        "latin": not_utf8(),
    }


@READERS
@pytest.mark.parametrize("name", ["year", "zone", "latin"])
def test_an_odd_column_that_nobody_asked_for_is_not_read(tmp_path: Path, read: Read, name: str) -> None:
    assert read(table(tmp_path / "a.parquet", **{name: odd_columns()[name]})) == ["r0"]


@READERS
@pytest.mark.parametrize("name", ["year", "zone", "latin"])
def test_an_odd_value_in_a_column_that_is_read_makes_its_row_unusable(
    tmp_path: Path, read: Read, name: str
) -> None:
    path = table(tmp_path / "a.parquet", question=odd_columns()[name])
    with pytest.raises(
        CorpusError, match=r"a\.parquet:1: 'question' is (datetime|a value that cannot be read)"
    ):
        read(path)


@READERS
def test_a_wide_column_is_not_read(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "a.parquet", image=pa.array([b"x" * 1000]))
    really, asked = pq.ParquetFile.iter_batches, list[str]()

    def watched(file: pq.ParquetFile, *arguments: Any, **options: Any) -> Any:
        for batch in really(file, *arguments, **options):
            asked.extend(batch.schema.names)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    assert read(tmp_path / "a.parquet") == ["r0"]
    assert sorted(asked) == ["answer", "id", "question"]


@READERS
def test_two_columns_of_one_name_are_refused(tmp_path: Path, read: Read) -> None:
    values = [pa.array([value]) for value in (*ROW.values(), "other")]
    pq.write_table(pa.Table.from_arrays(values, [*ROW, "answer"]), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet: 2 columns 'answer'; expected one"):
        read(tmp_path / "a.parquet")


@READERS
def test_a_parquet_file_without_a_column_names_those_it_has(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet: no column 'question'; the file has: text"):
        read(tmp_path / "a.parquet")


@READERS
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f'{{"id": {LONG}, "question": "a", "answer": "1"}}',
            "the id in 'id' is a whole number of 5000 digits",
        ),
        (f'{{"question": {LONG}, "answer": "1"}}', "'question' is a whole number of 5000 digits"),
        ('{"question": "a", "question": "b", "answer": "1"}', "'question' is given 2 times"),
        ('{"question": "\\ud800", "answer": "1"}', "'question' holds half a surrogate pair"),
        ('{"id": "\\ud800", "question": "a", "answer": "1"}', "the id in 'id' holds half a surrogate pair"),
        ('{"\\ud800": "a", "answer": "1"}', r"no column 'question' \(found \\ud800, answer\)"),
        ("[" * 5000, "not valid JSON"),
        ('{"question": 1, "answer": "1"}', "'question' is int 1; expected text"),
    ],
)
def test_what_cannot_be_text_is_refused_by_name_in_words_that_can_be_written(
    tmp_path: Path, read: Read, line: str, message: str
) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(CorpusError, match=rf"a\.jsonl:1: {message}") as caught:
        read(tmp_path / "a.jsonl")
    str(caught.value).encode()


@READERS
def test_odd_values_beside_the_columns_that_are_read_do_no_harm(tmp_path: Path, read: Read) -> None:
    odd = f'"n": {LONG}, "x": NaN, "y": 1e999, "z": "\\ud800", "\\udfff": 1, "t": 1, "t": 2'
    line = json.dumps(ROW)[:-1] + f", {odd}}}\n"
    (tmp_path / "a.jsonl").write_text(line)
    assert read(tmp_path / "a.jsonl") == ["r0"]


@READERS
def test_a_byte_order_mark_is_no_text_and_utf_16_is_named(tmp_path: Path, read: Read) -> None:
    text = json.dumps(ROW) + "\n"
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8-sig")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert read(tmp_path / "a.jsonl") == read(tmp_path / "a.jsonl.gz") == ["r0"]
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-16")
    with pytest.raises(CorpusError, match=r"a\.jsonl: UTF-16; save the file as UTF-8"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "\xe9", "answer": "1"}')
    with pytest.raises(CorpusError, match=r"a\.jsonl:1: not UTF-8 \(byte 14 of the line\)"):
        read(tmp_path / "a.jsonl")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = st.sampled_from(
    ("role", "content", "weight", "thinking", "reasoning_content", "name", "tool_calls", "loss", "x")
)
_TURNS = st.dictionaries(_FIELDS, st.sampled_from(("user", "assistant", "system", 0, 1, True)) | _VALUES)


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(
    row=st.dictionaries(st.sampled_from(("messages", "id", "tools", "system")), _VALUES | st.lists(_TURNS)),
    reasoning=st.sampled_from(("refuse", "think", "drop")),
)
def test_whatever_a_row_is_it_is_an_example_left_out_or_refused(row: dict[str, Any], reasoning: Any) -> None:
    config = CorpusConfig(path="a.jsonl", reasoning=reasoning)
    try:
        found = to_example(Row("a.jsonl:1", "a.jsonl", row), config)
    except UnusableRowError as error:
        assert error.what and error.remedy
        return
    if found is not None:
        json.dumps([found.messages, found.completion, found.id], ensure_ascii=False).encode()


@given(
    data=st.binary(max_size=60) | st.text(max_size=30).map(str.encode),
    name=st.sampled_from(("jsonl", "parquet")),
)
def test_whatever_a_file_holds_it_is_rows_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"a.{name}"
    path.write_bytes(data)
    for read in (as_corpus, as_benchmark):
        try:
            read(path)
        except TrimsError as error:
            str(error).encode()


def test_dates_in_a_hub_like_table_are_called_by_their_type(tmp_path: Path) -> None:
    day = pa.array([datetime.date(2024, 1, 1)])
    with pytest.raises(CorpusError, match="'answer' is date "):
        as_corpus(table(tmp_path / "a.parquet", answer=day))
