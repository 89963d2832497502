"""Rows of unequal length in plain files that are mapped into memory: one copy per host, whoever looks.

A folder has `<column>.bin` (all rows' values, one after another) and `<array>.npy` (one number per row, in
the order in which rows are read; among them where a row's values start). It is written under another name
and renamed, so it is whole or not there; processes that make it at the same time end up with one.

Covered: a crash while writing (what was begun lies beside it until the folder around it goes). Not covered:
a mapped file that is changed by someone else.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

from trims_core.store.durable import fsync_file, fsync_folder
from trims_core.store.locking import write_lock

Array = npt.NDArray[Any]
_TAKEN: Final = (errno.ENOTEMPTY, errno.EEXIST)


class MappedRows(Sequence[Array]):
    """Read-only rows of one column."""

    def __init__(self, values: Array, starts: Array, lengths: Array) -> None:
        self._values = values
        self._starts = starts
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, row: int) -> Array: ...
    @overload
    def __getitem__(self, row: slice) -> list[Array]: ...
    def __getitem__(self, row: int | slice) -> Array | list[Array]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        start = int(self._starts[row])
        return self._values[start : start + int(self._lengths[row])]


class MappedNames(Sequence[str]):
    """Read-only texts, decoded when asked for."""

    def __init__(self, rows: MappedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return (row.tobytes().decode() for row in self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [one.tobytes().decode() for one in self._rows[row]]
        return self._rows[row].tobytes().decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class ColumnWriter:
    """Appends to the columns of a folder."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._stack = ExitStack()
        self._files = {
            name: self._stack.enter_context((folder / f"{name}.bin").open("wb")) for name in columns
        }

    def append(self, **values: Array) -> None:
        """Write some values, one array for each column."""
        for name, array in values.items():
            self._files[name].write(np.ascontiguousarray(array).data)

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def make_once(folder: Path, write: Callable[[Path], None]) -> None:
    """The folder is there and whole afterwards, written by this process or by another.

    Args:
        write: fills an empty folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with write_lock(folder.with_name(f".{folder.name}.lock"), f"{folder.name} for training"):
        if folder.exists():
            return
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            write(temporary)
            for path in temporary.iterdir():
                fsync_file(path)
            fsync_folder(temporary)
            rename_unless_there(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        fsync_folder(folder.parent)


def rename_unless_there(temporary: Path, folder: Path) -> None:
    """Gives a folder its name, unless another process on a file system without locks was first."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise


def map_column(folder: Path, name: str, dtype: type[np.generic]) -> Array:
    """All values of a column."""
    path = folder / f"{name}.bin"
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)


def map_array(folder: Path, name: str) -> Array:
    """One number per row."""
    return np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray)
