"""Where shards end: a row more or less moves few boundaries; reading holds one shard at a time."""

from __future__ import annotations

import random
import weakref
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.config import CorpusConfig
from trims_core.corpus import stage
from trims_core.corpus.examples import Example, to_example
from trims_core.corpus.stage import begin, maker, shards_of
from trims_core.raw_rows import Row
from trims_core.stage import Work
from trims_core.store.units import Attempt

CONFIG = CorpusConfig(path=("x.jsonl",), prompt_column="q", completion_column="a")


def raw(row_id: str) -> Row:
    return Row(f"x.jsonl:{row_id}", "x.jsonl", {"id": row_id, "q": "?", "a": row_id})


@cache
def example(row_id: str) -> Example:
    found = to_example(raw(row_id), CONFIG)
    assert found is not None
    return found


def shards(ids: list[str], rows_per_shard: int) -> list[tuple[str, ...]]:
    return [tuple(row.id for row in shard) for shard in shards_of(map(example, ids), rows_per_shard)]


@given(st.lists(st.integers(), unique=True), st.integers(1, 12))
def test_shards_hold_every_row_once_in_order_and_are_never_too_long(numbers: list[int], size: int) -> None:
    ids = [str(number) for number in numbers]
    found = shards(ids, size)
    assert [row for shard in found for row in shard] == ids
    assert all(1 <= len(shard) <= size for shard in found)


def test_the_ends_of_shards_do_not_change_over_versions() -> None:
    # Counted off a list of blake2b(id, digest_size=8), little-endian: a cut behind multiples of 4; of nine
    # rows without one, behind the lowest of the first eight (7, 7 and 7 rows).
    assert [len(shard) for shard in shards([f"u{i}" for i in range(40)], 8)] == [6, 1, 1, 3, 4, 7, 7, 7, 3, 1]


def test_shards_are_about_half_as_long_as_they_may_be() -> None:
    found = shards([f"r{i}" for i in range(20_000)], 256)
    assert 0.3 * 256 < 20_000 / len(found) < 0.6 * 256


@pytest.mark.parametrize("size", [32, 256])
def test_a_row_more_or_less_makes_one_shard_new_sometimes_two_and_hardly_ever_three(size: int) -> None:
    found: Counter[int] = Counter()
    for seed in range(5):
        ids = [f"{seed}-{i}" for i in range(1500)]
        before = set(shards(ids, size))
        for place in random.Random(seed).sample(range(len(ids)), 20):
            for changed in ([*ids[:place], *ids[place + 1 :]], [*ids[:place], "new", *ids[place:]]):
                found[len(set(shards(changed, size)) - before)] += 1
    assert found.total() == 200
    assert found[0] + found[1] >= 180
    assert found[0] + found[1] + found[2] >= 199
    assert max(found) <= 3


class Live:
    """How many examples there are, and how many there were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def add(self, example: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(example, self._gone)

    def _gone(self) -> None:
        self.now -= 1


class Tracked(Example):
    """An example that can be watched (no slots)."""


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    """Counts the examples of an input of 5,000 rows."""
    found = Live()

    def rows(*_: Any) -> Iterator[Row]:
        return (raw(f"r{i}") for i in range(5_000))

    def watched(row: Row, config: CorpusConfig) -> Example:
        one = to_example(row, config)
        assert one is not None
        example = Tracked(*(getattr(one, name) for name in Example.__slots__))
        found.add(example)
        return example

    monkeypatch.setattr(stage, "read_rows", rows)
    monkeypatch.setattr(stage, "to_example", watched)
    return found


def test_reading_holds_one_shard_and_not_the_input(live: Live, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"rows_per_shard": 100})
    work = Work("corpus", config, {"data": "x"}, {}, lambda *_: None)
    facts = begin(work)
    assert facts.counts["n_out"] == 5_000
    assert live.now == 0
    assert 20 < live.most <= 100 + 1

    live.most = 0
    every = stage.units(work, facts)
    with maker(work, facts, every, ()) as make:
        for number, unit in enumerate(every):
            attempt = Attempt(tmp_path / str(number), tmp_path / "final", None)
            attempt.path.mkdir(parents=True)
            make(unit, attempt)
    assert 20 < live.most <= 100 + 1
