"""Data sets of the hub: which files a split is, and that they are read as a local copy is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.hub import FakeHub

from trims_core.benchmarks import get_benchmark
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.hub_data import HubData
from trims_core.raw_rows import Columns, Problems, Source, read_rows
from trims_core.sweep_sections import TaskConfig

DATA = "datasets/org/data"
PAIR = ("question", "answer")
CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
- config_name: other
  data_files: other/*.parquet
---
# What it is
"""


def lines(*names: str) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows(*names))


def rows(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "question": f"{name}?", "answer": "The answer is 1."} for name in names]


def table(*names: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(*names)), out)
    return out.getvalue()


def digest(config: str | None = None, split: str = "train") -> str:
    return Digests(None).dataset(None, "org/data", config, split)


def local_digest(*paths: Path) -> str:
    return Digests(None).dataset([str(path) for path in paths])


def ids(config: str | None = None, split: str = "train") -> list[str]:
    """As the corpus reads them, and as a benchmark does."""
    source = Source(hub="org/data", hub_config=config, split=split)
    problems = Problems("corpus")
    found = [row.values["id"] for row in read_rows(source, Columns(PAIR, ("id",)), problems)]
    assert not problems
    task = TaskConfig(benchmark="demo", hub="org/data", hub_config=config, split=split)
    assert [problem.id for problem in get_benchmark("demo").load(task)] == found
    return found


def test_a_split_has_the_digest_and_the_rows_of_a_local_copy_and_large_files_are_not_fetched_for_it(
    hub: FakeHub, tmp_path: Path
) -> None:
    files = {f"main/train-0000{i}-of-00002.parquet": table(f"a{i}", f"b{i}") for i in range(2)}
    commit = hub.commit(DATA, {"README.md": CARD, "main/test-0.parquet": table("t"), **files})
    copy = hub.copy(DATA, commit, tmp_path / "copy")
    hub.asked.clear()
    assert digest("main") == local_digest(*sorted(copy.glob("main/train*")))
    assert not [line for line in hub.asked if line.endswith("parquet")]
    assert ids("main") == ["a0", "b0", "a1", "b1"]
    assert ids("main", "test") == ["t"]


def test_small_files_count_by_their_bytes(hub: FakeHub, tmp_path: Path) -> None:
    commit = hub.commit(DATA, {"train.jsonl": lines("a"), "test.jsonl": lines("t")})
    copy = hub.copy(DATA, commit, tmp_path / "copy")
    assert digest() == local_digest(copy / "train.jsonl")
    assert digest(split="test") == local_digest(copy / "test.jsonl")
    assert ids() == ["a"]


def test_prose_and_other_files_rename_nothing_what_is_read_does(hub: FakeHub) -> None:
    hub.commit(DATA, {"README.md": CARD, "main/train-0.jsonl": lines("a"), "main/test-0.jsonl": lines("t")})
    before = digest("main")
    hub.commit(DATA, {"README.md": CARD + "More prose.", "main/test-0.jsonl": lines("u"), "x.txt": "x"})
    assert digest("main") == before
    hub.commit(DATA, {"README.md": CARD.replace("train, path: main/train-*", "train, path: main/test-*")})
    assert digest("main") != before
    assert ids("main") == ["u"]
    hub.commit(DATA, {"README.md": CARD, "main/train-0.jsonl": lines("b")})
    assert digest("main") != before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train.json", json.dumps(rows("a", "b"))),
        ("train.csv", "id,question,answer\na,a?,The answer is 1.\nb,b?,The answer is 2.\n"),
    ],
)
def test_other_kinds_are_read_by_datasets_and_their_card_counts(hub: FakeHub, name: str, data: str) -> None:
    hub.commit(DATA, {name: data})
    before = digest()
    assert ids() == ["a", "b"]
    hub.commit(DATA, {"README.md": "---\nlicense: mit\n---\nprose"})
    assert digest() == before
    hub.commit(DATA, {".huggingface.yaml": "license: mit"})
    assert digest() != before
    hub.commit(DATA, {".huggingface.yaml": None})
    assert digest() == before
    hub.commit(DATA, {"README.md": "---\nconfigs:\n- {config_name: c, data_files: train.*, sep: ','}\n---\n"})
    assert digest() != before


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [
        (None, "train", r"configuration default, split train.*Config name is missing"),
        ("main", "dev", r"no split 'dev'; it has train, test"),
        ("main", "train[:1]", r"no split 'train\[:1\]'.*set limit"),
        ("none", "train", r"configuration none.*not found"),
    ],
)
def test_a_wrong_configuration_or_split_is_named(
    hub: FakeHub, config: str | None, split: str, message: str
) -> None:
    hub.commit(DATA, {"README.md": CARD, "main/train-0.jsonl": lines("a"), "main/test-0.jsonl": lines("t")})
    with pytest.raises(ConfigError, match=f"(?s)org/data.*{message}"):
        digest(config, split)


def test_a_file_that_datasets_cannot_read_is_an_error_of_ours(hub: FakeHub) -> None:
    commit = hub.commit(DATA, {"train.json": "[{"})
    with pytest.raises(ConfigError, match="cannot be read"):
        list(HubData("org/data", None, "train", commit).rows())


def test_names_that_lead_out_of_the_repository_are_left_alone(hub: FakeHub, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    hub.commit(DATA, {"train.jsonl": lines("a"), "../" * 20 + str(outside)[1:]: lines("b")})
    assert ids() == ["a"]
    assert not outside.exists()


def test_with_everything_in_the_cache_nothing_is_asked_for(hub: FakeHub) -> None:
    commit = hub.commit(
        DATA, {"README.md": CARD, "main/train-0.parquet": table("a"), "main/test-0.parquet": table("t")}
    )
    known = digest("main")
    paths = HubData("org/data", "main", "train", commit).paths()
    hub.asked.clear()
    hub.go_away()
    assert HubData("org/data", "main", "train", commit).paths() == paths
    hub.offline()
    assert digest("main") == known
    assert hub.asked == []
