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

from trims_core.difficulty import quantiles
from trims_core.difficulty.quantiles import ListColumn, order_statistics
from trims_core.errors import CorruptShardError, InputError, NonFiniteScoreError, SchemaError

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
        found = order_statistics(write_shards(Path(folder), rows_of_shards), range)
    expected = np.sort(np.abs(flat))
    # Compared as patterns: −0.0 must come back as 0.0.
    assert found.values.view(np.uint32).tolist() == expected.view(np.uint32).tolist()
    assert found.n_less.tolist() == [int((flat < x).sum()) for x in expected]
    assert found.n_equal.tolist() == [int((flat == x).sum()) for x in expected]


def test_many_files_are_counted_in_several_queries(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random((40, 50)) < 0.5, np.float32(-0.0), rng.gamma(0.2, 1, (40, 50))).astype(
        np.float32
    )
    found = order_statistics(
        write_shards(tmp_path, values[:, None, :].tolist()), lambda _: [0, 500, 999, 1500, 1999]
    )
    assert found.values.tolist() == np.sort(np.abs(values), axis=None)[[0, 500, 999, 1500, 1999]].tolist()
    assert found.n_equal[0] == (values == 0).sum()


def test_a_guess_that_holds_saves_the_second_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).gamma(0.5, 1, (33, 3, 2000)).astype(np.float32)
    queried: list[Path] = []
    real = quantiles._query_patterns

    def noting(files: Sequence[Path], *others: Any) -> Any:
        queried.extend(files)
        return real(files, *others)

    monkeypatch.setattr(quantiles, "_query_patterns", noting)
    column = write_shards(tmp_path, values.tolist())
    found = order_statistics(column, lambda n: [n // 4, n // 2])
    assert found.values.tolist() == np.sort(values, axis=None)[[values.size // 4, values.size // 2]].tolist()
    assert queried == list(column.files[::16])


def test_a_guess_that_fails_changes_nothing(tmp_path: Path) -> None:
    # Sorted over the files: the first one, which is the guess, knows only the smallest values.
    values = np.sort(np.random.default_rng(2).gamma(0.1, 1, 12_000).astype(np.float32))
    values[:500] = 0.0
    column = write_shards(tmp_path, values.reshape(12, 4, 250).tolist())
    found = order_statistics(column, lambda n: range(0, n, max(n // 7, 1)))
    assert found.values.tolist() == values[list(found.ranks)].tolist()


def test_files_that_change_between_passes_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = write_shards(tmp_path, [[[1.0, 2.0]]])
    real = quantiles._query_patterns

    def changing(*arguments: Any) -> Any:
        write_shards(tmp_path, [[[1.0, 1.0, 2.0]]])
        return real(*arguments)

    monkeypatch.setattr(quantiles, "_query_patterns", changing)
    with pytest.raises(CorruptShardError, match="2 values between the edges, 1 in the first pass"):
        order_statistics(column, lambda _: [0])


@pytest.mark.parametrize("bad", [float("nan"), -1e-30, float("inf"), float("-inf"), None])
def test_a_value_that_is_no_difficulty_is_refused_with_its_place(tmp_path: Path, bad: float | None) -> None:
    column = write_shards(tmp_path, [[[1.0]], [[1.0, 2.0], [], [-0.0, 3.0, bad]]])
    with pytest.raises(NonFiniteScoreError, match=r"part-00001\.parquet: column 'x', row 2, position 2 is"):
        order_statistics(column, range)


def test_another_type_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "double.parquet"
    pq.write_table(pa.table({"x": pa.array([[1.0]], type=pa.list_(pa.float64()))}), file)
    with pytest.raises(SchemaError, match=r"column 'x' is list<.*double>, expected list<float32>"):
        order_statistics(ListColumn((file,), "x"), range)


def test_a_rank_beyond_the_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ranks 0 to 3 of 3 values"):
        order_statistics(write_shards(tmp_path, [[[1.0, 2.0, 3.0]]]), lambda _: [0, 3])


def test_no_rank_wanted_gives_nothing(tmp_path: Path) -> None:
    assert order_statistics(write_shards(tmp_path, [[[1.0]]]), lambda _: []).values.tolist() == []
