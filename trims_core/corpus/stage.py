"""The corpus stage: examples with stable ids, in shards that end where their ids say.

1. The input is read once, in order: every row is checked, ids are compared over all of it, and each shard's
   boundary and digest are noted (one unit per shard; keyed by its rows alone).
2. Where shards are missing it is read again, and they are written. Memory: one shard, and some 20 bytes of
   each id.

A shard ends behind an id whose hash says so, so a row that is inserted or removed changes the shard it
belongs to; where that row or the maximum decides a shard's end, also the next one (in about one of 500 cases
a third one).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from trims_core._faults import fault_point
from trims_core.config import CorpusConfig
from trims_core.corpus.examples import Example, columns_of, to_example
from trims_core.corpus.ids import SeenIds
from trims_core.errors import CorpusError
from trims_core.fingerprint import Digests, canonical_json
from trims_core.raw_rows import Copy, Problems, Row, Source, UnusableRowError, read_rows
from trims_core.schema import CORPUS, write_table
from trims_core.stage import Make, Outcome, Progress, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord

logger = logging.getLogger(__name__)

VERSION: Final = 3
TABLE_FILE: Final = "corpus.parquet"
_TELL_EVERY_S: Final = 2.0
_MOST_UNREAD: Final = 20
_COUNTED: Final = (
    "n_in",
    "n_out",
    "n_rejected",
    "n_left_out",
    "n_normalised",
    "n_reasoning_dropped",
    "n_duplicates",
)


@dataclass(frozen=True)
class Facts:
    """What the first reading came to."""

    shards: tuple[str, ...]
    """Per shard hex sha256 over the rows as they will be stored."""
    counts: Mapping[str, int]
    unread: Mapping[str, int]
    """Field of messages that means nothing here → messages that have it."""


def inputs(config: CorpusConfig, digests: Digests) -> dict[str, str]:
    """The input's bytes, and the names that stand in the rows."""
    data = digests.dataset(config.path, config.hub, config.hub_config, config.split, config.revision)
    if config.path is None:
        return {"data": data, "names": f"{config.hub}[{config.split}]"}
    return {"data": data, "names": ", ".join(Path(path).name for path in config.path)}


def begin(work: Work) -> Facts:
    """Reads and checks the whole input.

    Raises:
        CorpusError: rows that cannot be used, each with file, line and remedy; or no rows at all.
        DuplicateIdError: ids that occur twice, with both places.
    """
    config: CorpusConfig = work.settings
    reading = _Reading(config, work.progress)
    # map keeps no shard whose digest it has taken
    shards = tuple(map(_digest, shards_of(reading.examples(), config.rows_per_shard)))
    if reading.problems:
        _find_firsts(config, reading.problems)
        raise reading.problems.error()
    if reading.counts["n_out"] == 0:
        raise CorpusError(
            f"corpus: no examples in the input ({reading.counts['n_left_out']} answers have weight 0);"
            " expected at least one. Check corpus.path"
        )
    return Facts(shards, reading.counts, reading.unread)


def units(_work: Work, facts: Facts) -> list[Unit]:
    """One per shard; its rows are all it depends on."""
    return [Unit(f"corpus-{i:05d}", {}, {"rows": digest}, i) for i, digest in enumerate(facts.shards)]


@contextmanager
def maker(work: Work, _facts: Facts, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Reads the input again and writes the shards that are asked for, in order."""
    config: CorpusConfig = work.settings
    reading = _Reading(config, work.progress)
    shards = shards_of(reading.examples(), config.rows_per_shard)
    n_read = 0

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_read
        fault_point("corpus.before_shard")
        for _ in range(n_read, unit.source):
            next(shards, None)
        rows = next(shards, [])
        n_read = unit.source + 1
        if _digest(rows) != unit.inputs["rows"]:
            raise CorpusError(
                f"corpus: the input changed while it was read (shard {unit.source} has other rows now);"
                " run the same command again"
            )
        columns = {name: [getattr(row, name) for row in rows] for name in CORPUS.schema.names}
        n_rows = write_table(attempt.path / TABLE_FILE, CORPUS, columns)
        fault_point("corpus.before_record")
        return Made({TABLE_FILE: n_rows})

    yield make


def finish(work: Work, facts: Facts, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card."""
    counts, sources = facts.counts, _sources(work.settings)
    info = {
        "n_normalised": counts["n_normalised"],
        "n_shards": len(done),
        "sources": sources,
        "unread_fields": dict(facts.unread),
    }
    return Outcome(counts=counts, info=info, card=_card(sources, facts, len(done)))


SPEC: Final = StageSpec(
    "corpus",
    VERSION,
    settings=lambda config, _node: config.corpus,
    inputs=inputs,
    begin=begin,
    units=units,
    maker=maker,
    finish=finish,
)


def shards_of(examples: Iterator[Example], rows_per_shard: int) -> Iterator[list[Example]]:
    """Consecutive examples, cut behind ids whose hash is a multiple of half the maximum.

    Where the maximum is exceeded, the cut is behind the lowest hash so far. A row that is inserted before it
    leaves it where it is; a cut at the maximum itself would move, and the full shards that follow with it.
    """
    every = max(1, rows_per_shard // 2)
    shard: list[Example] = []
    hashes: list[int] = []
    for example in examples:
        if len(shard) == rows_per_shard:
            end = hashes.index(min(hashes)) + 1
            yield shard[:end]
            shard, hashes = shard[end:], hashes[end:]
        shard.append(example)
        hashes.append(int.from_bytes(hashlib.blake2b(example.id.encode(), digest_size=8).digest(), "little"))
        if hashes[-1] % every == 0:
            yield shard
            shard, hashes = [], []
    if shard:
        yield shard


def _find_firsts(config: CorpusConfig, problems: Problems) -> None:
    """Says of every copy that is listed where the first row with its id is: reads the input once more."""
    rows = corpus_rows(config, _problems())
    while problems.copies and (row := next(rows, None)) is not None:
        try:
            example = to_example(row, config)
        except UnusableRowError:
            continue
        if example is not None:
            problems.first_seen(Copy(example.id, row.place, example.content_digest))


def first_examples(config: CorpusConfig, n: int) -> list[Example]:
    """Up to `n` examples from the head of a corpus. Raises: CorpusError, DuplicateIdError: of these rows."""
    reading = _Reading(config, lambda *_: None)
    found = list(islice(reading.examples(), n))
    if reading.problems:
        raise reading.problems.error()
    return found


def corpus_rows(config: CorpusConfig, problems: Problems) -> Iterator[Row]:
    """The rows of a corpus as its input has them; what cannot be read is noted."""
    source = Source(config.path, config.hub, config.hub_config, config.split, config.revision)
    return read_rows(source, columns_of(config), problems)


def _problems() -> Problems:
    return Problems("corpus", instead=", or set corpus.on_duplicate: first")


def _digest(rows: Sequence[Example]) -> str:
    """Hex sha256 over the rows as they will be stored."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json([row.id, row.messages, row.completion, row.source]) + b"\n")
    return digest.hexdigest()


@dataclass
class _Reading:
    """One pass over the input: counts, problems, and the ids seen so far."""

    config: CorpusConfig
    progress: Progress
    problems: Problems = field(default_factory=lambda: _problems())
    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_COUNTED, 0)))
    unread: Counter[str] = field(default_factory=Counter)
    _seen: SeenIds = field(default_factory=SeenIds)
    _told_at: float = 0.0

    def examples(self) -> Iterator[Example]:
        """Usable examples with unseen ids, at most `limit`."""
        limit = self.config.limit
        for row in corpus_rows(self.config, self.problems):
            self.counts["n_in"] += 1
            self._tell(limit)
            try:
                example = to_example(row, self.config)
            except UnusableRowError as problem:
                self.problems.unusable(row.place, problem.what, problem.remedy)
                continue
            if example is None:
                self.counts["n_left_out"] += 1
                continue
            if self._is_duplicate(example, row.place):
                continue
            self._count(example)
            yield example
            if limit is not None and self.counts["n_out"] >= limit:
                return

    def _count(self, example: Example) -> None:
        self.counts["n_out"] += 1
        self.counts["n_normalised"] += example.normalised
        self.counts["n_reasoning_dropped"] += example.n_reasoning_dropped
        for name in example.unread:
            if name in self.unread or len(self.unread) < _MOST_UNREAD:
                self.unread[name] += 1

    def _is_duplicate(self, example: Example, place: str) -> bool:
        if self._seen.add(example.id):
            return False
        if self.config.on_duplicate == "first":
            self.counts["n_duplicates"] += 1
            logger.info("%s: id %r was already used; left out", place, example.id)
        else:
            self.problems.duplicate(Copy(example.id, place, example.content_digest))
        return True

    def _tell(self, limit: int | None) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self.progress(self.counts["n_out"], limit or 0, "examples read")


def _sources(config: CorpusConfig) -> list[str]:
    if config.path is not None:
        return list(config.path)
    return [f"{config.hub} {config.hub_config or ''} {config.split}@{config.revision or 'main'}"]


def _card(sources: Sequence[str], facts: Facts, n_shards: int) -> str:
    counts = facts.counts
    lines = [
        f"{counts['n_out']} examples in {n_shards} shard(s), from {', '.join(sources)}.",
        "",
        f"- rows read: {counts['n_in']}",
        f"- rows left out, whose answers have weight 0: {counts['n_left_out']}",
        f"- completions changed by NFC, blank lines or trailing space: {counts['n_normalised']}",
        f"- turns whose reasoning was left out: {counts['n_reasoning_dropped']}",
        f"- duplicates left out: {counts['n_duplicates']}",
    ]
    if facts.unread:
        found = ", ".join(f"{name} ({count})" for name, count in sorted(facts.unread.items()))
        lines.append(f"- fields of messages that are not read: {found}")
    return "\n".join(lines)
