"""The life of a unit: attempts and their owners, publishing, two writers, damage, refreshes, flushing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trims_core._faults import InjectedFaultError, _hits
from trims_core.errors import CorruptShardError, IncompleteArtifactError, StoreError
from trims_core.fingerprint import sha256_file
from trims_core.store import Attempt, Made, Store, UnitKey, UnitRecord
from trims_core.store import attempts as attempts_
from trims_core.store.artifact import read_unit

KEY = UnitKey("scores", 1, {"n": 1}, {"corpus": "c" * 64})
PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(attempt: Attempt, text: str) -> Made:
    """Two files and a note."""
    (attempt.path / "sub").mkdir(exist_ok=True)
    (attempt.path / "a.txt").write_text(text)
    (attempt.path / "sub" / "b.txt").write_text(text * 2)
    return Made({"a.txt": None, "sub/b.txt": None}, {"seconds": 1.5, "ids": ["a"]})


def publish(store: Store, text: str = "1") -> UnitRecord:
    """A finished unit."""
    with store.units.attempt(KEY, store.units.inode(KEY)) as attempt:
        return store.units.publish(attempt, KEY, write(attempt, text), 2.0, {"python": "3"})


def attempts(store: Store) -> list[Path]:
    """Folders of attempts at a unit."""
    return sorted((store.units.folder(KEY).parent / ".attempts").iterdir())


def retired(store: Store) -> list[Path]:
    """Units that were put aside."""
    folder = store.units.folder(KEY).parent / ".retired"
    return sorted(folder.iterdir()) if folder.exists() else []


def in_process(store: Store, body: str) -> subprocess.Popen[str]:
    """Python code in a process of its own; it finds `store`, `KEY`, `write` and `publish`."""
    head = f"import sys; sys.path[:0] = [{str(PROJECT)!r}, {str(Path(__file__).parent)!r}]\n"
    head += f"from test_units import *\nstore = Store({str(store.root)!r})\n"
    return subprocess.Popen([sys.executable, "-c", head + body], text=True, stdout=-1, stderr=-1)


def test_a_published_unit_is_found_by_the_next_process_as_it_was_written(store: Store) -> None:
    made = publish(store)
    found = Store(store.root).units.find(KEY)
    assert found == made
    assert found.path == store.root / "units" / "scores" / KEY.fingerprint
    assert (found.notes, found.seconds, found.versions) == (
        {"seconds": 1.5, "ids": ["a"]},
        2.0,
        {"python": "3"},
    )
    assert [entry.name for entry in found.files] == ["a.txt", "sub/b.txt"]
    assert found.file("sub/b.txt").read_text() == "11"
    assert found.files[0].sha256 == sha256_file(found.file("a.txt"))
    with pytest.raises(IncompleteArtifactError, match=r"unit\.json; it has: a\.txt"):
        found.file("unit.json")


@pytest.mark.parametrize(
    "other",
    [
        UnitKey("corpus", 1, KEY.settings, KEY.inputs),
        UnitKey("scores", 2, KEY.settings, KEY.inputs),
        UnitKey("scores", 1, {"n": 2}, KEY.inputs),
        UnitKey("scores", 1, KEY.settings, {"corpus": "d" * 64}),
        UnitKey("scores", 1, KEY.settings, {}),
        UnitKey("scores", 1, KEY.settings, KEY.inputs, schema_version=99),
    ],
)
def test_every_part_of_the_key_counts(store: Store, other: UnitKey) -> None:
    publish(store)
    assert other.fingerprint != KEY.fingerprint
    assert store.units.find(other) is None


def test_the_content_digest_is_of_names_and_contents_not_of_times(tmp_path: Path) -> None:
    one, two, other = (publish(Store(tmp_path / name), name[0]) for name in ("a1", "a2", "b"))
    assert one.ref("x").content_digest == two.ref("y").content_digest != other.ref("x").content_digest


def test_an_attempt_leaves_nothing_but_the_unit(store: Store) -> None:
    with store.units.attempt(KEY) as attempt:
        (attempt.scratch / "checkpoint").write_text("c")
        (attempt.path / "half.tmp").write_text("h")
        (attempt.path / "empty").mkdir()
        unit = store.units.publish(attempt, KEY, write(attempt, "1"))
    assert attempts(store) == []
    found = sorted(path.relative_to(unit.path).as_posix() for path in unit.path.rglob("*"))
    assert found == ["a.txt", "sub", "sub/b.txt", "unit.json"]


def test_a_failed_attempt_leaves_its_scratch_to_the_next_one_and_no_unit(store: Store) -> None:
    with pytest.raises(KeyError), store.units.attempt(KEY) as attempt:
        (attempt.scratch / "checkpoint").write_text("step 7")
        raise KeyError
    assert store.units.find(KEY) is None
    with store.units.attempt(KEY) as again:
        assert (again.scratch / "checkpoint").read_text() == "step 7"
        store.units.publish(again, KEY, write(again, "1"))
    assert attempts(store) == []


def test_a_failed_attempt_without_scratch_leaves_nothing(store: Store) -> None:
    with pytest.raises(KeyError), store.units.attempt(KEY) as attempt:
        write(attempt, "1")
        raise KeyError
    assert attempts(store) == []


def begin_and_die(store: Store) -> None:
    """Another process begins the unit, writes into both folders, and is killed."""
    body = (
        "with store.units.attempt(KEY) as attempt:\n"
        "    (attempt.path / 'half.txt').write_text('half')\n"
        "    (attempt.scratch / 'checkpoint').write_text('step 7')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = in_process(store, body)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def test_an_attempt_of_a_dead_process_is_taken_over_with_its_scratch(store: Store) -> None:
    begin_and_die(store)
    (left,) = attempts(store)
    with store.units.attempt(KEY) as attempt:
        assert attempts(store) == [attempt.folder]
        assert attempt.folder != left
        assert (attempt.scratch / "checkpoint").read_text() == "step 7"
        unit = store.units.publish(attempt, KEY, write(attempt, "1"))
    assert not (unit.path / "half.txt").exists()
    assert attempts(store) == []


def test_clean_takes_an_attempt_of_a_dead_process_once_it_is_old(store: Store) -> None:
    begin_and_die(store)
    assert store.clean(older_than_s=3600) == []
    assert store.clean(older_than_s=0, staging=False) == []
    (would,) = store.clean(older_than_s=0, dry_run=True)
    assert (would.path, would.size_bytes) == (attempts(store)[0], 10)
    (removed,) = store.clean(older_than_s=0)
    assert removed.why == "its writer is dead"
    assert attempts(store) == []


def test_an_attempt_of_a_living_process_is_left_alone(store: Store) -> None:
    body = (
        "with store.units.attempt(KEY) as attempt:\n"
        "    (attempt.scratch / 'checkpoint').write_text('theirs')\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.readline() or time.sleep(60)\n"
    )
    process = in_process(store, body)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        (theirs,) = attempts(store)
        assert store.clean(older_than_s=0) == []
        unit = publish(store)
        assert attempts(store) == [theirs]
        assert not (unit.path.parent / "checkpoint").exists()
        assert (theirs / "scratch" / "checkpoint").read_text() == "theirs"
    finally:
        process.kill()
        process.communicate()


def test_an_attempt_of_another_host_is_taken_over_only_after_a_long_silence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(attempts_.socket, "gethostname", lambda: "else.where")
        held = store.units.attempt(KEY)
        theirs = held.__enter__()
    (theirs.scratch / "deep").mkdir()
    (theirs.scratch / "checkpoint").write_text("theirs")
    with store.units.attempt(KEY) as attempt:
        assert attempt.folder != theirs.folder
        assert not (attempt.scratch / "checkpoint").exists()
    assert store.clean(older_than_s=0) == []
    age(theirs.folder, attempts_._ABANDONED_S - 60)
    with store.units.attempt(KEY):
        assert theirs.folder.exists()
    age(theirs.folder, attempts_._ABANDONED_S + 60)
    os.utime(theirs.scratch / "checkpoint")
    with store.units.attempt(KEY):
        assert theirs.folder.exists(), "something in it is young"
    age(theirs.folder, attempts_._ABANDONED_S + 60)
    with store.units.attempt(KEY) as attempt:
        assert (attempt.scratch / "checkpoint").read_text() == "theirs"
        assert not theirs.folder.exists()
        held.__exit__(None, None, None)
        assert attempt.folder.exists()


def test_a_long_silent_attempt_shows_that_its_writer_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_, "_BEAT_S", 0.01)
    with store.units.attempt(KEY) as attempt:
        age(attempt.folder, attempts_._ABANDONED_S + 60)
        deadline = time.monotonic() + 30
        while time.time() - attempts_.touched(attempt.folder) > 30:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_writer_whose_attempt_was_taken_over_is_told_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StoreError, match="another host took this attempt over"),
        store.units.attempt(KEY) as mine,
    ):
        age(mine.folder, attempts_._ABANDONED_S + 60)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(attempts_.socket, "gethostname", lambda: "else.where")
            publish(store, "theirs")
        write(mine, "mine")
    found = store.units.find(KEY)
    assert found is not None
    assert found.file("a.txt").read_text() == "theirs"
    assert attempts(store) == []


def age(folder: Path, seconds: float) -> None:
    """Let a folder and all in it look untouched for so long."""
    then = time.time() - seconds
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


def test_of_two_takers_of_a_dead_attempt_one_gets_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_and_die(store)
    with store.units.attempt(KEY) as mine, monkeypatch.context() as elsewhere:
        elsewhere.setattr(attempts_.socket, "gethostname", lambda: "else.where")
        with store.units.attempt(KEY) as theirs:
            found = [(one.scratch / "checkpoint").exists() for one in (mine, theirs)]
    assert found == [True, False]


def test_the_second_of_two_writers_adopts_the_first_ones_unit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.units.attempt(KEY) as mine:
        made = write(mine, "mine")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(attempts_.socket, "gethostname", lambda: "else.where")
            first = publish(store, "theirs")
        second = store.units.publish(mine, KEY, made)
    assert second == first
    assert second.file("a.txt").read_text() == "theirs"
    assert (attempts(store), retired(store)) == ([], [])


_RACE = """
from trims_core.stage import StageSpec, Unit, Work, make_units
from contextlib import nullcontext
attempts_.socket.gethostname = lambda: "host-" + {name!r}
every = [Unit(f"u{{i:02d}}", {{"i": i}}) for i in range(25)]
def make(unit, attempt):
    made = write(attempt, f"{name} {{unit.name}}")
    (attempt.scratch / "log").write_text("log")
    time.sleep(0.002)
    return made
spec = StageSpec("scores", 1, settings=None, units=lambda *_: every,
                 maker=lambda *_: nullcontext(make), finish=None)
(store.root / "ready-{name}").touch()
while not (store.root / "go").exists():
    time.sleep(0.001)
done = make_units(store, spec, Work("scores", None, {{}}, {{}}, print), None)
print(json.dumps({{name: unit.file("a.txt").read_text() + unit.made_at for name, unit in done.items()}}))
"""


@pytest.mark.faults
def test_two_hosts_that_make_the_same_units_without_locks_get_the_same_whole_ones(store: Store) -> None:
    store.root.mkdir(parents=True)
    writers = [in_process(store, _RACE.format(name=name)) for name in "ab"]
    while len(list(store.root.glob("ready-*"))) < 2 and all(writer.poll() is None for writer in writers):
        time.sleep(0.01)
    (store.root / "go").touch()
    results = []
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert (writer.returncode, "Traceback" in err) == (0, False), err
        results.append(json.loads(out.splitlines()[-1]))
    assert results[0] == results[1]
    assert len(results[0]) == 25
    assert {text[0] for text in results[0].values()} <= {"a", "b"}
    for folder in store.units.folder(KEY).parent.iterdir():
        if len(folder.name) == 64:
            assert list(store.units.problems(read_unit(folder), rehash=True)) == []
    assert (attempts(store), retired(store)) == ([], [])


def _tear(unit: UnitRecord) -> None:
    unit.file("a.txt").write_text("")


def _drop(unit: UnitRecord) -> None:
    unit.file("sub/b.txt").unlink()


def _flip(unit: UnitRecord) -> None:
    time.sleep(0.03)
    unit.file("a.txt").write_text("2")


def _edit(unit: UnitRecord) -> None:
    path = unit.path / "unit.json"
    path.write_bytes(path.read_bytes().replace(b'"seconds": 1.5', b'"seconds": 1.6'))


def _lose(unit: UnitRecord) -> None:
    (unit.path / "unit.json").unlink()


def _garble(unit: UnitRecord) -> None:
    (unit.path / "unit.json").write_bytes(b'\xff{"unit_version": 1')


def _age_format(unit: UnitRecord) -> None:
    (unit.path / "unit.json").write_text('{"unit_version": 0}')


def _rename(unit: UnitRecord) -> None:
    other = unit.path.with_name("0" * 64)
    unit.path.rename(other)
    path = other / "unit.json"
    shutil.copytree(other, unit.path)
    text = path.read_text().replace('"n": 1', '"n": 2')
    (unit.path / "unit.json").write_text(text)


@pytest.mark.parametrize("damage", [_tear, _drop, _flip, _edit, _lose, _garble, _age_format, _rename])
def test_a_damaged_unit_is_made_again_and_the_damaged_one_kept_aside(
    store: Store, damage: Callable[[UnitRecord], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(publish(store))
    again = Store(store.root)
    assert again.units.find(KEY) is None
    assert "\n" not in caplog.records[-1].message
    made = publish(again)
    assert Store(store.root).units.find(KEY) == made
    assert list(again.units.problems(made, rehash=True)) == []
    assert len(retired(store)) == 1


def test_a_refresh_replaces_a_unit_and_keeps_the_old_one_aside(store: Store) -> None:
    old, new = publish(store, "old"), publish(store, "new")
    assert new.path == old.path
    assert store.units.find(KEY) == new
    assert new.made_at > old.made_at
    (kept,) = retired(store)
    assert (kept / "a.txt").read_text() == "old"
    publish(store, "newer")
    assert len(retired(store)) == 2


def test_refreshing_what_is_not_there_just_makes_it(store: Store) -> None:
    assert publish(store).file("a.txt").read_text() == "1"
    assert retired(store) == []


def test_without_an_exchanging_file_system_a_unit_is_replaced_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_, "exchange", lambda one, other: False)
    publish(store, "old")
    assert publish(store, "new").file("a.txt").read_text() == "new"
    assert [path.joinpath("a.txt").read_text() for path in retired(store)] == ["old"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("site", "there"),
    [
        ("store.before_unit", "old"),
        ("store.before_publish", "old"),
        ("store.before_aside", "new"),
        ("store.after_publish", "new"),
    ],
)
def test_a_refresh_of_a_unit_that_dies_leaves_the_old_or_the_new_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, site: str, there: str
) -> None:
    publish(store, "old")
    _hits.clear()
    with monkeypatch.context() as faulty, pytest.raises(InjectedFaultError):
        faulty.setenv("TRIMS_FAULT", f"{site}:raise")
        publish(store, "new")
    found = store.units.find(KEY)
    assert found is not None
    assert found.file("a.txt").read_text() == there
    assert publish(store, "newer").file("a.txt").read_text() == "newer"
    assert attempts(store) == []


def test_rows_of_parquet_files_are_counted_and_digested(store: Store) -> None:
    with store.units.attempt(KEY) as attempt:
        pq.write_table(pa.table({"x": [1, 2, 3]}), attempt.path / "a.parquet")
        with pytest.raises(CorruptShardError, match="has 3 rows, expected 4"):
            store.units.publish(attempt, KEY, Made({"a.parquet": 4}))
        (entry,) = store.units.publish(attempt, KEY, Made({"a.parquet": None})).files
    assert entry.rows == 3
    assert entry.digest not in (None, entry.sha256)


def test_a_torn_parquet_file_is_not_published(store: Store) -> None:
    with store.units.attempt(KEY) as attempt:
        (attempt.path / "a.parquet").write_bytes(b"PAR1 half")
        with pytest.raises(CorruptShardError, match="not a readable Parquet file"):
            store.units.publish(attempt, KEY, Made({"a.parquet": None}))
    assert store.units.find(KEY) is None


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.txt", "a/../b.txt", "a//b.txt", "manifest.json", "unit.json"]
)
def test_names_outside_the_unit_are_refused(store: Store, name: str) -> None:
    with store.units.attempt(KEY) as attempt, pytest.raises(ValueError, match="plain relative name"):
        store.units.publish(attempt, KEY, Made({name: None}))


def test_notes_must_be_json(store: Store) -> None:
    with store.units.attempt(KEY) as attempt, pytest.raises(ValueError, match="nan"):
        store.units.publish(attempt, KEY, Made({}, {"loss": float("nan")}))


def test_a_unit_without_files_can_be_published(store: Store) -> None:
    with store.units.attempt(KEY) as attempt:
        made = store.units.publish(attempt, KEY, Made({}, {"n": 3}))
    assert store.units.find(KEY) == made
    assert made.notes == {"n": 3}


def spied(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed from now on: names relative to the store, the attempt's own left out."""
    seen: list[str] = []
    fsync, rename, exchange = os.fsync, os.rename, attempts_.exchange

    def name(path: object) -> str:
        text = os.path.relpath(os.fspath(path), store.root)  # type: ignore[call-overload]
        text = text.replace(KEY.fingerprint, "F")
        head, _, tail = text.partition("/.attempts/")
        return f"{head}/.attempts/A/{tail.partition('/')[2]}".rstrip("/") if tail else text

    def spy_fsync(descriptor: int) -> None:
        seen.append(f"flush {name(Path(f'/proc/self/fd/{descriptor}').readlink()).partition('.tmp-')[0]}")
        fsync(descriptor)

    def spy_rename(one: object, other: object, *rest: object) -> None:
        rename(one, other, *rest)  # type: ignore[arg-type]
        seen.append(f"rename {name(one)} to {name(other).partition('/.retired/F.')[0]}")

    def spy_exchange(one: Path, other: Path) -> bool:
        seen.append(f"exchange {name(one)} and {name(other)}")
        return exchange(one, other)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    monkeypatch.setattr(attempts_, "exchange", spy_exchange)
    return seen


FLUSHED = [
    "flush units/scores/.attempts/A/files/a.txt",
    "flush units/scores/.attempts/A/files/sub/b.txt",
    "flush units/scores/.attempts/A/files/unit.json",
    "flush units/scores/.attempts/A/files",
    "flush units/scores/.attempts/A/files/sub",
    "flush units/scores/.attempts/A/files",
    "flush units/scores/.attempts/A",
]


def test_files_unit_json_and_folders_are_flushed_before_the_name_and_the_name_after(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir(parents=True)
    seen = spied(store, monkeypatch)
    publish(store)
    assert seen == [
        "flush .",
        "flush units",
        "flush units/scores",
        *FLUSHED,
        "rename units/scores/.attempts/A/files to units/scores/F",
        "flush units/scores",
    ]


def test_a_refresh_flushes_the_new_unit_before_the_exchange_and_both_names_after(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    (store.units.folder(KEY).parent / ".retired").mkdir()
    seen = spied(store, monkeypatch)
    publish(store, "2")
    assert seen == [
        *FLUSHED,
        "exchange units/scores/.attempts/A/files and units/scores/F",
        "rename units/scores/.attempts/A/files to units/scores",
        "flush units/scores/.retired",
        "flush units/scores",
    ]
