"""The corpus stage: reads the input once, in order, and writes shards of `rows_per_shard` examples.

Each shard is a unit of the store's journal. A resumed run reads and checks the whole input again (ids must be
compared over all of it) and writes only the shards that are missing. Memory: one shard, and about 150 bytes
per id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from trims_core._faults import fault_point
from trims_core.config import CorpusConfig, TrimsConfig
from trims_core.corpus.examples import Example, to_example
from trims_core.corpus.problems import Problems, UnusableRowError
from trims_core.corpus.sources import read_rows
from trims_core.errors import CorpusError
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import CORPUS, write_table
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey

logger = logging.getLogger(__name__)

VERSION: Final = 1
_TELL_EVERY_S: Final = 2.0


def key(config: TrimsConfig, _node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """The corpus depends on its settings and the input's bytes (or the hub's commit)."""
    corpus = config.corpus
    data = digests.dataset(corpus.path, corpus.hub, corpus.hub_config, corpus.split, corpus.revision)
    return stage_key("corpus", VERSION, corpus.result_fields(), parents, {"data": data})


def produce(work: Work) -> Outcome:
    """Writes corpus-00000.parquet …

    Raises:
        CorpusError: rows that cannot be used, each with file, line and remedy; or no rows at all.
        DuplicateIdError: ids that occur twice, with both places.
    """
    config = work.config.corpus
    reading = _Reading(config, work)
    shard: list[Example] = []
    n_shards = 0
    for example in reading.examples():
        shard.append(example)
        if len(shard) == config.rows_per_shard:
            n_shards += _write_shard(work, n_shards, shard, reading.problems)
            shard = []
    if shard:
        n_shards += _write_shard(work, n_shards, shard, reading.problems)
    if reading.problems:
        raise reading.problems.error()
    if reading.counts["n_out"] == 0:
        raise CorpusError("corpus: no examples in the input; expected at least one. Check corpus.path")
    info = {"n_normalised": reading.counts["n_normalised"], "n_shards": n_shards, "sources": _sources(config)}
    return Outcome(counts=reading.counts, info=info, card=_card(config, reading.counts, n_shards))


SPEC: Final = StageSpec(name="corpus", version=VERSION, key=key, produce=produce)


@dataclass
class _Reading:
    """One pass over the input: counts, problems, and the ids seen so far."""

    config: CorpusConfig
    work: Work
    problems: Problems = field(default_factory=Problems)
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "n_in": 0,
            "n_out": 0,
            "n_rejected": 0,
            "n_normalised": 0,
            "n_duplicates": 0,
        }
    )
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    """id → (place, content digest)."""
    _told_at: float = 0.0

    def examples(self) -> Iterator[Example]:
        """Usable examples with unseen ids, at most `limit`."""
        limit = self.config.limit
        for row in read_rows(self.config, self.problems):
            self.counts["n_in"] += 1
            self._tell(limit)
            try:
                example = to_example(row, self.config)
            except UnusableRowError as problem:
                self.problems.unusable(row.place, problem.what, problem.remedy)
                continue
            if self._is_duplicate(example, row.place):
                continue
            self.counts["n_out"] += 1
            self.counts["n_normalised"] += example.normalised
            yield example
            if limit is not None and self.counts["n_out"] >= limit:
                return

    def _is_duplicate(self, example: Example, place: str) -> bool:
        digest = example.content_digest
        first = self._seen.get(example.id)
        if first is None:
            self._seen[example.id] = (place, digest)
            return False
        if self.config.on_duplicate == "first":
            self.counts["n_duplicates"] += 1
            logger.info("%s: id %r was already used at %s; left out", place, example.id, first[0])
        else:
            self.problems.duplicate(example.id, first[0], place, same_content=first[1] == digest)
        return True

    def _tell(self, limit: int | None) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self.work.progress(self.counts["n_out"], limit or 0, "examples read")


def _write_shard(work: Work, number: int, shard: list[Example], problems: Problems) -> int:
    """Writes and records one shard unless it is there or the input has problems; gives back 1."""
    unit = f"corpus-{number:05d}"
    if problems or work.staging.is_done(unit):
        return 1
    fault_point("corpus.before_shard")
    name = f"{unit}.parquet"
    columns = {
        "id": [example.id for example in shard],
        "messages": [example.messages for example in shard],
        "completion": [example.completion for example in shard],
        "source": [example.source for example in shard],
    }
    rows = write_table(work.staging.path / name, CORPUS, columns, work.config.corpus.result_fields())
    fault_point("corpus.before_record")
    work.staging.record(unit, {name: rows})
    fault_point("corpus.after_record")
    return 1


def _sources(config: CorpusConfig) -> list[str]:
    if config.path is not None:
        return list(config.path)
    return [f"{config.hub} {config.hub_config or ''} {config.split}@{config.revision or 'main'}"]


def _card(config: CorpusConfig, counts: Mapping[str, int], n_shards: int) -> str:
    return "\n".join(
        [
            f"{counts['n_out']} examples in {n_shards} shard(s), from {', '.join(_sources(config))}.",
            "",
            f"- rows read: {counts['n_in']}",
            f"- completions changed by NFC or stripping: {counts['n_normalised']}",
            f"- duplicates left out: {counts['n_duplicates']}",
        ]
    )
