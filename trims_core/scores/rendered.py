"""Corpus shards in the teacher's tokens, each tokenized once and then read from disk.

The engine is started for the longest row of all shards that are missing, so they are tokenized before the
first one is scored. What came of it lies in a folder meanwhile, 8 bytes per token; memory holds one shard.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from trims_core.rendering import Renderer
from trims_core.schema import CORPUS, CORPUS_TEXT, read_table
from trims_core.scores.shards import ShardRows, render_rows
from trims_core.teacher.protocol import Refused
from trims_core.token_bytes import EncodedRows

_ARRAYS: Final = 5


class RenderedShards:
    """A context whose end removes the folder.

    Args:
        folder: where the temporary folder lies; None: where the system has them.
    """

    def __init__(self, renderer: Renderer, folder: Path | None) -> None:
        self._renderer = renderer
        self._temporary = tempfile.TemporaryDirectory(prefix=".tokens-", dir=folder)
        self._files: dict[Path, Path] = {}

    def rows(self, shard: Path, tick: Callable[[int], None] = lambda _: None) -> ShardRows:
        """A shard's rows; those that template or tokenizer refuse are marked."""
        table = read_table(shard, CORPUS).select(list(CORPUS_TEXT))
        if shard in self._files:
            with self._files[shard].open("rb") as file:
                prompt_P, prompt_R1, ids_T, end_T, offset_R1 = (np.load(file) for _ in range(_ARRAYS))
            about = json.loads(self._files[shard].with_suffix(".json").read_bytes())
            return ShardRows(
                table["id"].to_pylist(),
                prompt_P,
                prompt_R1,
                EncodedRows(ids_T, end_T, offset_R1),
                {one[0]: Refused(*one) for one in about["refused"]},
                about["shown"],
            )
        rows = render_rows(self._renderer, table.to_pydict(), tick)
        path = Path(self._temporary.name, f"{len(self._files)}.npy")
        with path.open("wb") as file:
            targets = rows.targets
            arrays = (rows.prompt_P, rows.prompt_offset_R1)
            for array in (*arrays, targets.ids_T, targets.byte_end_T, targets.offset_R1):
                np.save(file, array)
        refused = [[one.id, one.reason, one.detail] for one in rows.refused.values()]
        path.with_suffix(".json").write_text(json.dumps({"refused": refused, "shown": rows.shown}))
        self._files[shard] = path
        return rows

    def __enter__(self) -> RenderedShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()
