"""The corpus stage: all inputs give the same table; everything wrong comes in one error."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.hub import FakeHub
from fakes.teacher import raw_config

from trims_core.corpus import stage
from trims_core.errors import CorpusError, DuplicateIdError
from trims_core.graph import build_graph
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Store

ROWS = [{"id": f"r{i}", "q": f"{i}+{i}?", "a": f"{2 * i} " if i == 3 else f"{2 * i}"} for i in range(7)]
PAIR = {"prompt_column": "q", "completion_column": "a", "rows_per_shard": 3}


def run(root: Path, paths: list[Path] | None, **corpus: Any) -> Result:
    raw = raw_config(root, 1)
    raw["corpus"] = {**PAIR, **corpus, **({} if paths is None else {"path": [str(path) for path in paths]})}
    config = parse_config(raw)
    return run_node(Store(config.store), config, build_graph(config)[0], {})


def rows_of(result: Result) -> list[dict[str, Any]]:
    return [row for path in result.artifact.files("corpus-") for row in pq.read_table(path).to_pylist()]


def jsonl(path: Path, rows: list[Any]) -> Path:
    data = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def n_rows(result: Result) -> list[int]:
    """Rows of each shard."""
    return [entry.rows or 0 for unit in result.artifact.units for entry in unit.files]


def test_rows_come_in_order_in_shards_of_at_most_the_configured_size(tmp_path: Path) -> None:
    result = run(tmp_path, [jsonl(tmp_path / "a.jsonl", ROWS)], rows_per_shard=6)
    assert 1 < len(n_rows(result)) < 7
    assert max(n_rows(result)) <= 6
    rows = rows_of(result)
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert rows[3]["completion"] == "6"
    assert {row["source"] for row in rows} == {"a.jsonl"}
    counts = dict(result.artifact.manifest.counts)
    assert counts == {"n_in": 7, "n_out": 7, "n_rejected": 0, "n_left_out": 0} | {
        "n_normalised": 1,
        "n_reasoning_dropped": 0,
        "n_duplicates": 0,
    }


def test_jsonl_gzip_parquet_and_a_hub_data_set_give_the_same_examples(tmp_path: Path) -> None:
    plain = run(tmp_path / "1", [jsonl(tmp_path / "1/a.jsonl", ROWS)])
    packed = run(tmp_path / "2", [jsonl(tmp_path / "2/a.jsonl.gz", ROWS)])
    (tmp_path / "3").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "3/a.parquet")
    table = run(tmp_path / "3", [tmp_path / "3/a.parquet"])

    def text(result: Result) -> list[tuple[str, ...]]:
        return [(row["id"], row["messages"][0]["content"], row["completion"]) for row in rows_of(result)]

    assert text(plain) == text(packed) == text(table)


def test_a_hub_data_set_is_read_with_places(tmp_path: Path, hub: FakeHub) -> None:
    from trims_core.raw_rows import Columns, Problems, Source, read_rows

    commit = hub.commit("datasets/org/data", {"train.jsonl": jsonl(tmp_path / "a", ROWS).read_bytes()})
    source = Source(hub="org/data", split="train")
    rows = list(read_rows(source, Columns(("q", "a")), Problems("corpus")))
    assert [row.values for row in rows] == ROWS
    assert rows[2].place.endswith(f"{commit}/train.jsonl:3")
    assert {row.source for row in rows} == {"org/data[train]"}


def test_files_are_read_in_the_order_given_and_limited(tmp_path: Path) -> None:
    first, second = jsonl(tmp_path / "z.jsonl", ROWS[:2]), jsonl(tmp_path / "a.jsonl", ROWS[2:])
    result = run(tmp_path, [first, second], limit=4)
    assert [row["id"] for row in rows_of(result)] == ["r0", "r1", "r2", "r3"]


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    lines = ["\ufeff" + json.dumps(ROWS[0]) + "\r\n", "\r\n", json.dumps(ROWS[1]), ""]
    result = run(tmp_path, [jsonl(tmp_path / "a.jsonl", lines)])
    assert [row["id"] for row in rows_of(result)] == ["r0", "r1"]
    assert rows_of(result)[0]["messages"] == [{"role": "user", "content": "0+0?"}]


def test_everything_wrong_comes_in_one_error_with_places_and_remedies(tmp_path: Path) -> None:
    bad = [
        ROWS[0],
        '{"id": "x", "q": \n',
        {**ROWS[1], "a": "  "},
        "[1]\n",
        {"id": "y", "q": 3, "a": "b"},
        ROWS[0],
    ]
    first = jsonl(tmp_path / "bad.jsonl", bad)
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(json.dumps(ROWS[2]).encode() * 50)[:-12])
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"q": "\xe9"}\n')
    with pytest.raises(CorpusError) as caught:
        run(tmp_path, [first, torn, latin, tmp_path / "corpus.jsonl"])
    text = str(caught.value)
    for expected in (
        "7 row(s) cannot be used and 1 duplicate(s)",
        "bad.jsonl:2: not valid JSON",
        "bad.jsonl:3: the completion is empty; write an answer",
        "bad.jsonl:4: a JSON list; expected one object",
        "bad.jsonl:5: 'q' is int 3; expected text",
        "bad.jsonl:6: id 'r0' was already used at",
        "torn.jsonl.gz:1: damaged gzip file",
        "latin.jsonl:1: not UTF-8",
        "corpus.jsonl:1: no column 'q' (found id, messages)",
    ):
        assert expected in text


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"500 row\(s\) cannot be used(.|\n)*… and 480 more") as caught:
        run(tmp_path, [jsonl(tmp_path / "a.jsonl", ["{\n"] * 500)])
    assert len(str(caught.value).splitlines()) == 22


def test_a_damaged_or_foreign_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-30])
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("x")
    with pytest.raises(CorpusError) as caught:
        run(tmp_path, [tmp_path / name for name in ("a.parquet", "b.parquet", "c.parquet", "d.txt")])
    for expected in (
        "b.parquet:1: damaged Parquet file",
        "c.parquet: no column 'q'; the file has: text",
        "d.txt: unknown kind of file",
    ):
        assert expected in str(caught.value)


def test_duplicated_ids_in_one_file_and_across_files_name_both_places(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [ROWS[0], ROWS[1], ROWS[0]])
    second = jsonl(tmp_path / "b.jsonl", [{**ROWS[1], "a": "other"}])
    with pytest.raises(DuplicateIdError) as caught:
        run(tmp_path, [first, second])
    text = str(caught.value)
    assert f"{first}:3: id 'r0' was already used at {first}:1, with the same content" in text
    assert f"{second}:1: id 'r1' was already used at {first}:2, with different content" in text
    assert "on_duplicate: first" in text


def test_the_same_file_twice_is_all_duplicates(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DuplicateIdError, match=r"7 duplicate\(s\)"):
        run(tmp_path, [path, path])


def test_rows_without_ids_are_duplicates_when_their_content_is_equal(tmp_path: Path) -> None:
    rows = [{"q": "a", "a": "b"}, {"q": "a", "a": "\nb "}, {"q": "a", "a": "c"}]
    with pytest.raises(DuplicateIdError, match=r"1 duplicate\(s\)"):
        run(tmp_path, [jsonl(tmp_path / "a.jsonl", rows)])


def test_the_first_of_duplicates_is_kept_on_request_and_the_others_counted(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[0], {**ROWS[0], "a": "other"}, ROWS[1]]
    result = run(tmp_path, [jsonl(tmp_path / "a.jsonl", rows)], on_duplicate="first")
    assert [row["completion"] for row in rows_of(result)] == ["0", "2"]
    assert result.artifact.manifest.counts["n_duplicates"] == 2


def test_an_input_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no examples"):
        run(tmp_path, [jsonl(tmp_path / "a.jsonl", [])])


def test_moving_the_input_changes_nothing_and_changing_it_does(tmp_path: Path) -> None:
    first = run(tmp_path, [jsonl(tmp_path / "a.jsonl", ROWS)])
    moved = run(tmp_path, [jsonl(tmp_path / "elsewhere/a.jsonl", ROWS)])
    assert moved.how == "cached"
    assert moved.artifact.fingerprint == first.artifact.fingerprint
    renamed = run(tmp_path, [jsonl(tmp_path / "b.jsonl", ROWS)])
    assert renamed.how == "made"
    assert {row["source"] for row in rows_of(renamed)} == {"b.jsonl"}
    changed = run(tmp_path, [jsonl(tmp_path / "a.jsonl", ROWS[1:])])
    assert changed.how == "made"
    assert changed.artifact.fingerprint != first.artifact.fingerprint


def test_a_row_above_leaves_the_other_rows_as_they_are(tmp_path: Path) -> None:
    before = rows_of(run(tmp_path, [jsonl(tmp_path / "a.jsonl", ROWS)]))
    above = {"id": "new", "q": "?", "a": "!"}
    after = rows_of(run(tmp_path, [jsonl(tmp_path / "a.jsonl", [above, *ROWS])]))
    assert after[1:] == before


def test_an_input_that_shrinks_between_its_readings_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    real = stage.units

    def then_shrink(*arguments: Any) -> Any:
        units = real(*arguments)
        jsonl(path, ROWS[:2])
        return units

    monkeypatch.setattr(stage, "SPEC", replace(stage.SPEC, units=then_shrink))
    with pytest.raises(CorpusError, match=r"changed while it was read .*run the same command again"):
        run(tmp_path, [path])


def test_gsm8k_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    result = run(
        tmp_path,
        [shared_data / "data/gsm8k/train.jsonl.gz"],
        prompt_column="question",
        completion_column="answer",
        rows_per_shard=1024,
    )
    assert result.artifact.manifest.counts["n_out"] == 7473
    assert sum(n_rows(result)) == 7473
    assert max(n_rows(result)) <= 1024
    assert 8 <= len(n_rows(result)) <= 40


def test_a_parquet_file_without_ids_gets_them_from_the_content(tmp_path: Path) -> None:
    rows = [{"q": row["q"], "a": row["a"]} for row in ROWS]
    lines = run(tmp_path / "1", [jsonl(tmp_path / "1/a.jsonl", rows)])
    (tmp_path / "2").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "2/a.parquet")
    table = run(tmp_path / "2", [tmp_path / "2/a.parquet"])
    assert [row["id"] for row in rows_of(table)] == [row["id"] for row in rows_of(lines)]


def test_copies_are_found_across_shards_and_files_and_the_first_one_is_named(tmp_path: Path) -> None:
    many = [{"id": f"r{i}", "q": f"{i}?", "a": f"{i}"} for i in range(50)]
    first = jsonl(tmp_path / "a.jsonl", many)
    pq.write_table(pa.Table.from_pylist([{**many[7], "a": "other"}, many[31]]), tmp_path / "b.parquet")
    with pytest.raises(DuplicateIdError) as caught:
        run(tmp_path, [first, tmp_path / "b.parquet"], rows_per_shard=3)
    text = str(caught.value)
    assert f"b.parquet:1: id 'r7' was already used at {first}:8, with different content" in text
    assert f"b.parquet:2: id 'r31' was already used at {first}:32, with the same content" in text
    assert "2 duplicate(s)" in text
