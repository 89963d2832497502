"""The rows of every CPU stage's tables on a small world, as digests: equal inputs give equal rows for ever.

`PYTHONPATH=.:tests python -m fakes.chain_world` prints the digests. A change of them is a change of results:
raise the stage's VERSION with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from fakes.chain_world import digest, golden_tables

GOLDEN: Final = {
    "corpus": "d0722be833eb78ecfa805b883abbca1cf2dd4dece178d0941256516b4f502355",
    "scores": "ef4590812d1a0321358a0ee0944dcac8c4c66a3b45aa4f57127e5d72e3715f52",
    "rejects": "dc69d04742cc271b91876f86dc428d8933341db3d5e15f84c9ae2135bf719d2e",
    "aligned": "774f6f0eb1d019ab75e39e373377a6f4f016125da27a4afbaa4d6ffdb72e7213",
    "buckets": "97b9a5d7383b27359d0e8d8d445823ccbf2b549072fc3f770cd9498dc55ffb45",
}
# Computed by the code of commit 036f00a, before scores and buckets consisted of units, from the same world.
BUCKET_COLUMNS: Final = ("id", "input_ids", "difficulty_nats", "bucket")
BUCKETS_BEFORE_UNITS: Final = "589f6de6ef00f3c1fecc759d066f7873e10f964eaf29f8d31280fad84f25d5a4"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    return golden_tables(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", list(GOLDEN))
def test_rows_are_what_they_have_always_been(name: str, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    assert digest(tables[name], tmp_path) == GOLDEN[name]


def test_bucket_ids_are_those_from_before_there_were_units(
    tables: dict[str, pa.Table], tmp_path: Path
) -> None:
    assert digest(tables["buckets"], tmp_path, BUCKET_COLUMNS) == BUCKETS_BEFORE_UNITS


def test_the_world_has_what_can_go_wrong(tables: dict[str, pa.Table]) -> None:
    assert tables["rejects"]["id"].to_pylist() == ["r1"]
    assert tables["corpus"].num_rows == 20 == tables["scores"].num_rows + 1
    n_student = sum(len(row) for row in tables["aligned"]["difficulty_nats"].to_pylist())
    n_teacher = sum(len(row) for row in tables["scores"]["nll_nats"].to_pylist())
    assert n_student < n_teacher, "otherwise there was nothing to align"
    assert {b for row in tables["buckets"]["bucket"].to_pylist() for b in row} == {1, 2, 3, 4, 5}
