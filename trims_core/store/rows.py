"""A digest of a table's rows, not of its file: what a stage's result depends on.

Equal rows give equal digests whatever wrote the Parquet file: another compression, row-group size, metadata
or version of the writer changes nothing. Covered: booleans, numbers, strings, lists and structs of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class _Digest(Protocol):
    def update(self, data: Any, /) -> None: ...


def rows_digest(path: Path, columns: Collection[str] | None = None) -> str:
    """Hex sha256 over the names, types and values of a Parquet file's columns; memory: one column.

    Args:
        columns: only these; default: all.
    Raises:
        TypeError: a column of a type that no table here has.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    digest = hashlib.sha256()
    for name in sorted(file.schema_arrow.names if columns is None else columns):
        digest.update(f"{name}:{file.schema_arrow.field(name).type}:{file.metadata.num_rows}\n".encode())
        _feed(digest, file.read(columns=[name])[name].combine_chunks())
    return digest.hexdigest()


def _feed(digest: _Digest, array: Any) -> None:
    """1. which values are there, 2. their lengths where they have some, 3. the values, 0 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    valid_N = np.asarray(array.is_valid())
    digest.update(np.packbits(valid_N).tobytes())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(_plain(pc.list_value_length(array), np.int64))
        _feed(digest, array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            _feed(digest, child)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        data = array.drop_null().cast(pa.large_binary())
        digest.update(_plain(pc.binary_length(data), np.int64))
        digest.update(b"".join(data.to_pylist()))
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(np.asarray(array.fill_null(False))).tobytes())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        digest.update(_plain(array, kind.to_pandas_dtype()))
    else:
        raise TypeError(
            f"a column of type {kind} has no row digest; expected numbers, strings, lists, structs"
        )


def _plain(array: Any, dtype: Any) -> bytes:
    """Little-endian bytes of numbers, 0 where they are null."""
    values_N: np.ndarray[Any, Any] = np.asarray(array.fill_null(0))
    data: bytes = values_N.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
    return data
