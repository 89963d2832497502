"""Tables are written and read by name and carry their units; drift is an error with column and types."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.old_store import CORPUS_01

from trims_core.errors import SchemaError
from trims_core.schema import (
    BUCKETS,
    CORPUS,
    GRADED_SAMPLES,
    SAMPLES,
    SCORES,
    TABLES,
    Table,
    provenance,
    read_table,
    write_table,
)

COLUMNS = {
    "id": ["a", "b"],
    "token_ids": [[1, 2], [3]],
    "byte_end": [[1, 2], [4]],
    "nll_nats": [[0.5, 0.25], [1.0]],
    "entropy_nats": [None, [0.125]],
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A scores shard of two rows."""
    path = tmp_path / "scores.parquet"
    assert write_table(path, SCORES, COLUMNS, {"model": "m"}) == 2
    return path


def rewrite(path: Path, table: pa.Table, about: dict[str, object] | None = None) -> None:
    """Write a changed table with the metadata of the old one, `about` merged in."""
    metadata = json.loads(pq.read_schema(path).metadata[b"trims"])
    table = table.replace_schema_metadata({b"trims": json.dumps({**metadata, **(about or {})}).encode()})
    pq.write_table(table, path)


def test_what_is_written_is_read(shard: Path) -> None:
    assert read_table(shard, SCORES).to_pydict() == COLUMNS


def test_a_shard_says_what_its_numbers_are(shard: Path) -> None:
    about = provenance(shard)
    assert (about["table"], about["provenance"]) == ("scores", {"model": "m"})
    assert about["units"]["nll_nats"] == "nats"


def test_equal_rows_give_equal_bytes(shard: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.parquet"
    write_table(again, SCORES, pa.Table.from_pydict(COLUMNS, schema=SCORES.schema), {"model": "m"})
    assert again.read_bytes() == shard.read_bytes()


def test_reordered_columns_are_read_by_name(shard: Path) -> None:
    table = pq.read_table(shard)
    rewrite(shard, table.select(list(reversed(table.column_names))))
    assert read_table(shard, SCORES).to_pydict() == COLUMNS


def test_another_type_names_the_column_and_both_types(shard: Path) -> None:
    table = pq.read_table(shard)
    doubles = table["nll_nats"].cast(pa.list_(pa.float64()))
    rewrite(shard, table.set_column(table.schema.get_field_index("nll_nats"), "nll_nats", doubles))
    with pytest.raises(SchemaError, match=r"'nll_nats' is list<\w+: double>, expected list<\w+: float>"):
        read_table(shard, SCORES)


def test_missing_and_extra_columns_are_named(shard: Path) -> None:
    table = pq.read_table(shard)
    rewrite(shard, table.rename_columns(["id", "token_ids", "byte_end", "nll_bits", "entropy_nats"]))
    with pytest.raises(
        SchemaError, match=r"missing columns \['nll_nats'\], unexpected columns \['nll_bits'\]"
    ):
        read_table(shard, SCORES)


def test_another_unit_is_refused(shard: Path) -> None:
    rewrite(shard, pq.read_table(shard), {"units": {**SCORES.units, "nll_nats": "bits"}})
    with pytest.raises(SchemaError, match="bits"):
        read_table(shard, SCORES)


@pytest.mark.parametrize("about", [{"schema_version": 0}, {"table": "buckets"}])
def test_another_version_or_table_is_refused(shard: Path, about: dict[str, object]) -> None:
    rewrite(shard, pq.read_table(shard), about)
    with pytest.raises(SchemaError, match="expected 'scores' version 1"):
        read_table(shard, SCORES)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "foreign.parquet")
    assert provenance(tmp_path / "foreign.parquet") == {}
    with pytest.raises(SchemaError, match="table None"):
        read_table(tmp_path / "foreign.parquet", CORPUS)


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_an_empty_table_keeps_its_schema(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "empty.parquet"
    assert write_table(path, table, {name: [] for name in table.schema.names}) == 0
    assert read_table(path, table).schema.names == table.schema.names


def test_units_belong_to_columns_that_exist() -> None:
    for table in TABLES.values():
        assert set(table.units) <= set(table.schema.names), table.name


def test_bucket_numbers_fit_up_to_255() -> None:
    assert BUCKETS.schema.field("bucket").type == pa.list_(pa.uint8())


TABLES_OF_01 = (
    (CORPUS_01, "8bcf146ef3ee6b6468b9009a31bdf963df5c6828932dd88648b7747e7624751d"),
    (GRADED_SAMPLES, "5769dd9bc224facb0b6f19b9974c568f9e205bc8ebc6dc4e298aa2018258df7d"),
)
"""Tables that have changed since version 0.1, and the digests of what commit 230b1b7 writes."""


@pytest.mark.parametrize(("table", "digest"), TABLES_OF_01, ids=["corpus", "samples"])
def test_the_old_form_of_a_table_is_what_version_01_wrote(table: Table, digest: str) -> None:
    columns = sorted((column.name, str(column.type)) for column in table.schema)
    text = json.dumps([columns, dict(table.units)], sort_keys=True)
    assert sha256(text.encode()).hexdigest() == digest


@pytest.mark.parametrize(("old", "now"), [(CORPUS_01, CORPUS), (GRADED_SAMPLES, SAMPLES)])
def test_a_table_of_version_01_is_read_as_todays(tmp_path: Path, old: Table, now: Table) -> None:
    path = tmp_path / "old.parquet"
    write_table(path, old, {name: [None] for name in old.schema.names})
    found = read_table(path, now)
    assert (found.column_names, found.num_rows) == (now.schema.names, 1)
    rewrite(path, pq.read_table(path).drop_columns(now.schema.names[0]))
    with pytest.raises(SchemaError, match="missing columns"):
        read_table(path, now)


def test_todays_samples_are_not_read_as_graded_ones(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"
    write_table(path, SAMPLES, {name: [None] for name in SAMPLES.schema.names})
    with pytest.raises(SchemaError, match="units"):
        read_table(path, GRADED_SAMPLES)
