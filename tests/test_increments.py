"""What a change costs, from corpus to buckets: only what depends on it is made again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import STAGES, ChainWorld, ids_by_unit, rows, table
from fakes.teacher import LOG_VARIABLE

from trims_core.difficulty import aligned
from trims_core.stage import Result

N_ROWS, SHARD_ROWS = 2_000, 256
ENTROPY = {"options": {"entropy": True}}
OBSERVER = """
from fakes.teacher import FakeTeacher

class Observer(FakeTeacher):
    def observe(self, requests):
        pass
"""
Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainWorld]:
    """2,000 rows for each of two seeds, scored; tests change the corpus and leave the store as it is."""
    root = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG_VARIABLE, str(root / "asked.txt"))
        world = ChainWorld(root, root / "asked.txt")
        for name in ("a", "b"):
            world.write(rows(N_ROWS, name)).run("scores")
            assert len(world.asked()) == N_ROWS
        yield world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChainWorld:
    """60 rows, of which nothing is made yet."""
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "asked.txt"))
    return ChainWorld(tmp_path, tmp_path / "asked.txt").write(rows(60))


def how(done: Mapping[str, Result]) -> list[str]:
    return [done[stage].how for stage in STAGES]


def new_units(before: Result, after: Result) -> dict[str, list[str]]:
    """Units that were not there, with their rows' ids."""
    there = {unit.fingerprint for unit in before.artifact.units}
    return {name: ids for name, ids in ids_by_unit(after.artifact).items() if name not in there}


def refuse_to_align(*_: object) -> None:
    raise AssertionError("aligned again")


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_appended_row_costs_at_most_one_shards_rows(name: str, scored: ChainWorld) -> None:
    before = scored.write(rows(N_ROWS, name)).run("scores")
    assert scored.asked() == []
    after = scored.write([*rows(N_ROWS, name), *rows(1, "appended")]).run("scores")
    asked = scored.asked()
    last = list(ids_by_unit(before["scores"].artifact).values())[-1]
    assert "appended0" in asked
    assert set(asked) <= {*last, "appended0"}
    assert len(asked) == len(set(asked)) <= SHARD_ROWS + 1
    assert len(after["scores"].artifact.units) >= len(before["scores"].artifact.units) >= N_ROWS / SHARD_ROWS


PLACES = [0, 1, 1_000, *random.Random(0).sample(range(N_ROWS), 3), N_ROWS - 1]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", ["removed", "inserted"])
def test_a_row_inserted_or_removed_costs_at_most_two_shards(
    change: str, place: int, name: str, scored: ChainWorld
) -> None:
    all_rows = rows(N_ROWS, name)
    before = scored.write(all_rows).run("scores")["scores"]
    scored.asked()
    if change == "removed":
        changed = [*all_rows[:place], *all_rows[place + 1 :]]
    else:
        changed = [*all_rows[:place], *rows(1, f"{name}{place}-new"), *all_rows[place:]]
    after = scored.write(changed).run("scores")["scores"]
    new = new_units(before, after)
    assert len(new) <= 2
    assert sorted(scored.asked()) == sorted(row for ids in new.values() for row in ids)
    found = [row for ids in ids_by_unit(after.artifact).values() for row in ids]
    assert found == [row["id"] for row in changed]


def test_another_k_makes_the_buckets_and_nothing_else(
    world: ChainWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = world.run(buckets={"k": 8})
    world.asked()
    monkeypatch.setattr(aligned, "align_shard", refuse_to_align)
    four = world.run(buckets={"k": 4})
    assert how(four) == ["cached", "cached", "cached", "made"]
    assert world.asked() == []
    assert not {u.fingerprint for u in eight["buckets"].artifact.units} & {
        u.fingerprint for u in four["buckets"].artifact.units
    }


def test_another_metric_aligns_again_and_scores_nothing(world: ChainWorld) -> None:
    before = world.run(scores=ENTROPY)
    assert len(world.asked()) == 60
    after = world.run(scores=ENTROPY, buckets={"metric": "entropy"})
    assert how(after) == ["cached", "cached", "made", "made"]
    assert world.asked() == []
    assert len(new_units(before["aligned"], after["aligned"])) == len(before["aligned"].artifact.units)


@pytest.mark.parametrize(
    "names",
    [
        ("renamed.jsonl",),
        ("corpus.parquet",),
        ("second.jsonl", "first.jsonl", "third.parquet"),
    ],
)
def test_the_same_rows_in_other_files_score_and_align_nothing(
    names: tuple[str, ...], world: ChainWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.run()
    world.asked()
    monkeypatch.setattr(aligned, "align_shard", refuse_to_align)
    after = world.write(rows(60), *names).run()
    assert world.asked() == []
    assert after["corpus"].how == "made"
    assert {row["source"] for row in table(after["corpus"].artifact, "corpus").to_pylist()} == set(names)
    for stage in ("scores", "aligned", "buckets"):
        assert new_units(before[stage], after[stage]) == {}
        assert after[stage].artifact.content_digest == before[stage].artifact.content_digest
    assert after["buckets"].how == "cached"


def test_rows_in_another_order_keep_their_values(world: ChainWorld) -> None:
    before = world.run()
    after = world.write(rows(60)[::-1]).run()
    for stage in ("scores", "buckets"):
        was, now = (table(done[stage].artifact, stage).to_pylist() for done in (before, after))
        assert [row["id"] for row in now] == [row["id"] for row in was][::-1]
        assert {row["id"]: row for row in now} == {row["id"]: row for row in was}


def test_another_size_of_shards_keeps_all_values(world: ChainWorld) -> None:
    small, large = (world.run(corpus={"rows_per_shard": size}) for size in (4, 64))
    assert len(small["scores"].artifact.units) > len(large["scores"].artifact.units)
    for stage in STAGES:
        first, second = (table(done[stage].artifact, stage) for done in (small, large))
        assert first.equals(second)


def test_moving_the_input_or_the_checkpoints_makes_nothing_again(world: ChainWorld) -> None:
    before = world.run()
    moved = world.root / "moved"
    moved.mkdir()
    for name in ("corpus.jsonl", "teacher", "student"):
        shutil.move(world.root / name, moved / name)
    world.path, world.teacher, world.student = [moved / "corpus.jsonl"], moved / "teacher", moved / "student"
    after = world.run()
    assert how(after) == ["cached"] * 4
    assert [after[stage].artifact.fingerprint for stage in STAGES] == [
        before[stage].artifact.fingerprint for stage in STAGES
    ]
    for stage in STAGES:  # nor do the units, should the artifacts be gone
        shutil.rmtree(world.root / "store" / stage)
    world.asked()
    again = world.run()
    assert how(again) == ["made"] * 4
    assert world.asked() == []
    assert all(new_units(before[stage], again[stage]) == {} for stage in STAGES)


def test_a_teacher_that_observes_the_corpus_scores_all_of_it_again(
    world: ChainWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "observing.py").write_text(OBSERVER)
    monkeypatch.syspath_prepend(world.root)
    more = [*rows(60), *rows(1, "appended")]
    for teacher in ("unigram", "observing:Observer", "fakes.teacher:FakeTeacher"):
        before = world.write(rows(60)).run(
            "scores", corpus={"rows_per_shard": 8}, scores={"teacher": teacher}
        )
        world.asked()
        after = world.write(more).run("scores", corpus={"rows_per_shard": 8}, scores={"teacher": teacher})
        asked = world.asked()
        assert len(new_units(before["corpus"], after["corpus"])) <= 2
        again = [row for ids in new_units(before["scores"], after["scores"]).values() for row in ids]
        if teacher == "fakes.teacher:FakeTeacher":
            assert len(again) == len(asked) <= 9
        else:
            assert sorted(again) == sorted(row["id"] for row in more)
        if teacher == "observing:Observer":
            assert sorted(asked) == sorted(again)


def test_another_prompt_aligns_its_shard_again_although_the_scores_are_equal(world: ChainWorld) -> None:
    options = {"corpus": {"rows_per_shard": 8}, "scores": {"teacher": "unigram"}}
    before = world.run(**options)
    changed = rows(60)
    changed[20]["messages"][0]["content"] += " Please."
    after = world.write(changed).run(**options)
    assert after["scores"].artifact.content_digest == before["scores"].artifact.content_digest
    (ids,) = new_units(before["aligned"], after["aligned"]).values()
    assert "r20" in ids
    was, now = (table(done["buckets"].artifact, "buckets").to_pylist() for done in (before, after))
    assert [row["id"] for old, row in zip(was, now, strict=True) if row != old] == ["r20"]
    assert now[20]["prompt_length"] > was[20]["prompt_length"]


def test_unigram_scores_after_an_appended_row_are_those_of_a_fresh_run(
    world: ChainWorld, tmp_path: Path
) -> None:
    unigram = {"teacher": "unigram"}
    world.run("scores", scores=unigram)
    more = [*rows(60), *rows(7, "appended")]
    grown = world.write(more).run("scores", scores=unigram)["scores"].artifact
    fresh = ChainWorld(tmp_path / "fresh").write(more).run("scores", scores=unigram)["scores"].artifact
    assert table(grown, "scores").equals(table(fresh, "scores"))
