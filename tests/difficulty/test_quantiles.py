"""Exact order statistics of Parquet list columns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.difficulty.quantiles import ListColumn, order_statistics, upper_counts
from trims_core.errors import InputError, NonFiniteScoreError, SchemaError

# Ties, both zeros, the smallest denormal and the largest float among ordinary values.
difficulties = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-45, 0.5, 2.0, 3.4028234663852886e38]),
    st.floats(0, 100, width=32).map(abs),
)
shards = st.lists(st.lists(st.lists(difficulties, max_size=5), max_size=6), min_size=1, max_size=5)


def write_shards(folder: Path, rows_of_shards: Sequence[Sequence[Sequence[Any]]]) -> ListColumn:
    """One file per shard with a list<float32> column named x."""
    files = []
    for number, rows in enumerate(rows_of_shards):
        files.append(folder / f"part-{number:05d}.parquet")
        pq.write_table(pa.table({"x": pa.array(list(rows), type=pa.list_(pa.float32()))}), files[-1])
    return ListColumn(tuple(files), "x")


@settings(max_examples=60, deadline=None)
@given(shards)
def test_every_rank_equals_the_sorted_values(rows_of_shards: list[list[list[float]]]) -> None:
    flat = np.array([x for rows in rows_of_shards for row in rows for x in row], dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        found = order_statistics(write_shards(Path(folder), rows_of_shards), range(len(flat)))
    expected = np.sort(np.abs(flat))
    # Compared as patterns: −0.0 must come back as 0.0.
    assert found.values.view(np.uint32).tolist() == expected.view(np.uint32).tolist()
    assert found.n_less.tolist() == [int((flat < x).sum()) for x in expected]
    assert found.n_equal.tolist() == [int((flat == x).sum()) for x in expected]


@settings(max_examples=25, deadline=None)
@given(shards)
def test_counts_of_shards_add_up_to_those_of_their_union(rows_of_shards: list[list[list[float]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        column = write_shards(Path(folder), rows_of_shards)
        parts = [upper_counts(ListColumn((file,), "x")) for file in reversed(column.files)]
        assert np.sum(parts, axis=0).tolist() == upper_counts(column).tolist()


def test_many_files_are_counted_in_several_queries(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random((40, 50)) < 0.5, np.float32(-0.0), rng.gamma(0.2, 1, (40, 50))).astype(
        np.float32
    )
    found = order_statistics(write_shards(tmp_path, values[:, None, :].tolist()), [0, 500, 999, 1500, 1999])
    assert found.values.tolist() == np.sort(np.abs(values), axis=None)[[0, 500, 999, 1500, 1999]].tolist()
    assert found.n_equal[0] == (values == 0).sum()


@pytest.mark.parametrize("bad", [float("nan"), -1e-30, float("inf"), float("-inf"), None])
def test_a_value_that_is_no_difficulty_is_refused_with_its_place(tmp_path: Path, bad: float | None) -> None:
    column = write_shards(tmp_path, [[[1.0]], [[1.0, 2.0], [], [-0.0, 3.0, bad]]])
    with pytest.raises(NonFiniteScoreError, match=r"part-00001\.parquet: column 'x', row 2, position 2 is"):
        upper_counts(column)


def test_another_type_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "double.parquet"
    pq.write_table(pa.table({"x": pa.array([[1.0]], type=pa.list_(pa.float64()))}), file)
    with pytest.raises(SchemaError, match=r"column 'x' is list<.*double>, expected list<float32>"):
        upper_counts(ListColumn((file,), "x"))


def test_a_rank_beyond_the_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rank 3 of 3 values"):
        order_statistics(write_shards(tmp_path, [[[1.0, 2.0, 3.0]]]), [0, 3])


def test_no_rank_wanted_gives_nothing(tmp_path: Path) -> None:
    assert order_statistics(write_shards(tmp_path, [[[1.0]]]), []).values.tolist() == []
