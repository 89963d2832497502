"""`trims clean --units` and `trims du`: finished units that no artifact lists go once they are old."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from trims_core.graph import build_graph
from trims_core.settings import load_config
from trims_core.stage import run_node
from trims_core.store import Made, Store, UnitKey, UnitRecord

HOUR_S = 3600.0


def trims(*words: str | Path) -> str:
    """Everything printed by a command that ends well, on lines that do not wrap."""
    found = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
    assert found.exit_code == 0, found.output
    return found.output


def publish(store: Store, stage: str, number: int, size_bytes: int = 2048) -> UnitRecord:
    """A finished unit that no artifact lists, as a run leaves it that was cut off before its commit."""
    key = UnitKey(stage, 1, {"number": number})
    with store.units.attempt(key) as attempt:
        (attempt.path / "u.bin").write_bytes(b"x" * size_bytes)
        return store.units.publish(attempt, key, Made({"u.bin": None}))


@pytest.fixture
def store(config: Path) -> Store:
    """A store with a corpus and its scores, whose units are listed."""
    settings = load_config(config)
    store, (corpus, scores, *_) = Store(settings.store), build_graph(settings)
    made = run_node(store, settings, corpus, {}).artifact
    run_node(store, settings, scores, {"corpus": made})
    return store


def units_of(store: Store, stage: str) -> set[str]:
    return {path.name for path in (store.root / "units" / stage).iterdir() if not path.name.startswith(".")}


def listed(store: Store, stage: str) -> set[str]:
    return {unit.fingerprint for artifact in store.artifacts(stage) for unit in artifact.units}


@pytest.fixture
def loose(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[UnitRecord, UnitRecord]:
    """An unlisted unit that is older than an hour, and one that is younger; all listed ones are older."""
    old = publish(store, "corpus", 1)
    time.sleep(0.05)
    between = time.time()
    time.sleep(0.05)
    young = publish(store, "corpus", 2)
    monkeypatch.setattr(time, "time", lambda: between + HOUR_S)
    return old, young


def test_only_unlisted_units_beyond_the_limit_are_removed_and_named(
    store: Store, loose: tuple[UnitRecord, UnitRecord]
) -> None:
    old, young = loose
    before = {stage: listed(store, stage) for stage in ("corpus", "scores")}
    said = trims("clean", store.root, "--units", "--older-than", "1h")
    (line, total) = said.splitlines()
    assert line.startswith(f"removed {store.root / 'units' / 'corpus'}")
    assert old.key.fingerprint in line
    assert line.endswith("): no artifact lists it")
    assert total.startswith("removed 1 folders, 2.")
    assert not old.path.exists()
    assert units_of(store, "corpus") == before["corpus"] | {young.key.fingerprint}
    assert units_of(store, "scores") == before["scores"] != set()
    assert trims("verify", store.root, "--deep").endswith("2 artifacts whole (re-hashed)\n")
    assert trims("clean", store.root, "--units", "--older-than", "1h") == "removed 0 folders, 0 B\n"


def test_a_dry_run_names_the_same_and_removes_nothing(
    store: Store, loose: tuple[UnitRecord, UnitRecord]
) -> None:
    before = sorted(path for path in store.root.rglob("*") if ".verified" not in path.name)
    would = trims("clean", store.root, "--units", "--older-than", "1h", "--dry-run")
    assert f"would remove {loose[0].path} (2." in would
    assert "would remove 1 folders" in would
    assert sorted(path for path in store.root.rglob("*") if ".verified" not in path.name) == before
    assert "removed 1 folders" in trims("clean", store.root, "--units", "--older-than", "1h")


def test_the_limit_is_a_day_unless_it_is_given(store: Store, loose: tuple[UnitRecord, UnitRecord]) -> None:
    assert trims("clean", store.root, "--units") == "removed 0 folders, 0 B\n"
    assert "removed 2 folders" in trims("clean", store.root, "--units", "--older-than", "0s")


@pytest.mark.parametrize("only", ["--staging", "--retired"])
def test_units_stay_where_only_other_things_are_asked_for(
    store: Store, loose: tuple[UnitRecord, UnitRecord], only: str
) -> None:
    assert trims("clean", store.root, only, "--older-than", "0s") == "removed 0 folders, 0 B\n"
    assert all(unit.path.exists() for unit in loose)


def test_units_alone_leave_what_a_refresh_replaced(store: Store) -> None:
    unit = publish(store, "corpus", 1)
    with store.units.attempt(unit.key, store.units.inode(unit.key)) as attempt:
        (attempt.path / "u.bin").write_bytes(b"other")
        store.units.publish(attempt, unit.key, Made({"u.bin": None}))
    assert "removed 1 folders" in trims("clean", store.root, "--units", "--older-than", "0s")
    assert "removed 1 folders" in trims("clean", store.root, "--retired", "--older-than", "0s")


def test_du_counts_listed_and_loose_units_with_their_stage(store: Store) -> None:
    def rows() -> dict[str, str]:
        lines = [line.split(maxsplit=1) for line in trims("du", store.root).splitlines() if line.strip()]
        return {words[0]: words[1].strip() for words in lines if len(words) == 2}

    before = rows()
    assert before.keys() == {"stage", "corpus", "scores", "all"}
    assert before["corpus"].endswith("KiB")
    publish(store, "scores", 1, size_bytes=5 << 20)
    after = rows()
    assert after["corpus"] == before["corpus"]
    assert after["scores"] == after["all"] == "5.0 MiB"
    assert list(after) == ["stage", "scores", "corpus", "all"], "the largest first"
    trims("clean", store.root, "--units", "--older-than", "0s")
    assert rows() == before
