"""The `trims` command on a store of version 0.1, alone and beside today's artifacts: nothing is lost, nothing
crashes, and adapters come out. Fake stages; the last test decodes with a real student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.decoding_world import config_of, trained, write_sweep_world
from fakes.old_store import as_01, old_run, write_old
from typer.testing import CliRunner

from flows.cli import app
from trims_core.graph import build_graph
from trims_core.settings import load_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store


@pytest.fixture
def old(config: Path) -> dict[str, Path]:
    """Folders of a run of version 0.1 in the config's store, by node."""
    return old_run(load_config(config))


@pytest.fixture(params=["alone", "beside today's"])
def store(request: pytest.FixtureRequest, config: Path, old: dict[str, Path]) -> Store:
    """The store that holds it, without and with today's run of the same config."""
    if request.param != "alone":
        make_all(config)
    return Store(load_config(config).store)


def make_all(config: Path) -> dict[str, Artifact]:
    """Everything made by today's code, without Prefect."""
    settings = load_config(config)
    done: dict[str, Artifact] = {}
    for node in build_graph(settings):
        parents = {role: done[parent] for role, parent in node.parents.items()}
        result = run_node(Store(settings.store), settings, node, parents)
        assert result.how == "made", "what version 0.1 made is no hit"
        done[node.id] = result.artifact
    return done


def trims(*words: str | Path) -> tuple[int, str]:
    """Exit code and everything printed; a crash is raised."""
    found = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.output


def contents(folders: dict[str, Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for one in folders.values() for path in one.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "STORE"),
        ("du", "STORE"),
        ("verify", "STORE"),
        ("verify", "STORE", "--deep"),
        ("clean", "STORE", "--older-than", "0s"),
        ("clean", "STORE", "--units", "--older-than", "0s"),
        ("plan", "CONFIG"),
        ("plan", "CONFIG", "--set", "buckets.k=4"),
        ("explain", "CONFIG", "corpus"),
        ("explain", "CONFIG", "sweep/untuned"),
        ("explain", "CONFIG", "report", "--set", "buckets.k=4"),
    ],
    ids=" ".join,
)
def test_a_command_ends_well_and_leaves_every_old_file(
    words: tuple[str, ...], config: Path, store: Store, old: dict[str, Path]
) -> None:
    before = contents(old)
    for _ in range(2):
        code, said = trims(*({"STORE": store.root, "CONFIG": config}.get(word, word) for word in words))
        assert code == 0, said
        assert "Traceback" not in said
    assert contents(old) == before


def test_ls_marks_what_version_01_made(store: Store, old: dict[str, Path]) -> None:
    _, said = trims("ls", store.root)
    lines = [line for line in said.splitlines() if "(version 0.1)" in line]
    assert {line.split()[0] for line in lines} == set(old)
    for node, folder in old.items():
        assert any(line.split()[0] == node and folder.name[:12] in line for line in lines)


def test_verify_names_a_damaged_old_file(store: Store, old: dict[str, Path]) -> None:
    adapter = old["train/trims-s0"] / "adapter" / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    code, said = trims("verify", store.root)
    assert (code, f"{adapter}: " in said) == (66, True)
    assert "1 of" in said


def test_clean_removes_an_old_artifact_by_name(store: Store, old: dict[str, Path]) -> None:
    code, _ = trims("clean", store.root, "--artifact", f"report/{old['report'].name[:12]}")
    assert (code, old["report"].exists(), old["corpus"].exists()) == (0, False, True)


def test_plan_and_explain_say_that_only_an_old_one_is_there(config: Path, old: dict[str, Path]) -> None:
    why = f"only one of version 0.1 is there ({old['corpus'].name[:12]})"
    code, said = trims("plan", config)
    assert (code, why in said, " hit " in said) == (0, True, False)
    code, said = trims("explain", config, "corpus")
    assert (code, f"corpus: miss: {why}" in said, "(not set)" in said) == (0, True, False)


def test_todays_artifact_is_compared_with_todays(config: Path) -> None:
    old_run(load_config(config), created_at="2099-01-01T00:00:00.000000+00:00")
    make_all(config)
    code, said = trims("explain", config, "buckets", "--set", "buckets.k=4")
    assert (code, "config buckets.k: 8 → 4" in said, "version 0.1" in said) == (0, True, False)


def exported(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in out.iterdir()}


def adapter_of(folder: Path) -> dict[str, str]:
    return exported(folder / "adapter")


def test_export_takes_the_old_adapter_of_the_same_settings_and_says_so(
    config: Path, tmp_path: Path, old: dict[str, Path]
) -> None:
    code, said = trims("export", config, tmp_path / "out", "--model", "trims-s0")
    assert code == 0, said
    folder = old["train/trims-s0"]
    assert f"adapter: {tmp_path / 'out'} (version 0.1's train/trims-s0, train/{folder.name[:12]}, " in said
    assert exported(tmp_path / "out") == adapter_of(folder) != {}


def test_export_prefers_todays_adapter(config: Path, tmp_path: Path, old: dict[str, Path]) -> None:
    made = make_all(config)
    code, said = trims("export", config, tmp_path / "out")
    assert (code, "version 0.1" in said) == (0, False)
    assert exported(tmp_path / "out") == {
        p.name: p.read_text() for p in made["train/trims-s0"].files("adapter/")
    }


def test_an_old_adapter_of_other_settings_is_named_and_exported_only_by_name(
    config: Path, tmp_path: Path, old: dict[str, Path]
) -> None:
    other = ("--set", "train.lr=0.5")
    code, said = trims("export", config, tmp_path / "out", *other)
    folder = old["train/trims-s0"]
    name = f"train/{folder.name[:12]}"
    assert (code, f"or take with --artifact {name}, made by version 0.1" in said) == (66, True)
    assert "config train.lr changed (0.0001 → 0.5)" in said
    for number, named in enumerate((name, name.partition("/")[2], folder)):
        code, said = trims("export", config, tmp_path / str(number), "--artifact", named, *other)
        assert code == 0, said
        assert exported(tmp_path / str(number)) == adapter_of(folder)


def test_export_by_name_takes_todays_adapters_too(config: Path, tmp_path: Path) -> None:
    made = make_all(config)["train/trims-s0"]
    code, said = trims("export", config, tmp_path / "out", "--artifact", f"train/{made.fingerprint[:9]}")
    assert (code, "version" in said) == (0, False)
    assert exported(tmp_path / "out") == {path.name: path.read_text() for path in made.files("adapter/")}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--artifact", "train/00"), 66, "stands for 0 artifacts"),
        (("--artifact", "REPORT"), 2, "is of stage report; expected one of train"),
        (("--artifact", "TRAIN", "--model", "trims-s0"), 2, "both name what to export; expected one"),
        (("--artifact", "TRAIN", "--merge", "--set", "student.model=STUDENT"), 2, "was trained on ./none"),
    ],
)
def test_a_wrong_name_is_one_line(
    config: Path, tmp_path: Path, old: dict[str, Path], words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    stand_for = {
        "REPORT": str(old["report"]),
        "TRAIN": str(old["train/trims-s0"]),
        "student.model=STUDENT": f"student.model={tmp_path / 'student'}",
    }
    found, said = trims("export", config, tmp_path / "out", *(stand_for.get(word, word) for word in words))
    assert (found, message in said) == (code, True), said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_old_adapter_is_not_exported(config: Path, tmp_path: Path, old: dict[str, Path]) -> None:
    (old["train/trims-s0"] / "adapter" / "adapter_config.json").write_text("{}")
    for words in ((), ("--artifact", str(old["train/trims-s0"]))):
        code, said = trims("export", config, tmp_path / "out", *words)
        assert (code, "adapter_config.json" in said) == (66, True)


def test_an_old_adapter_decodes_as_it_lies_exported_and_merged(tmp_path: Path) -> None:
    path = write_sweep_world(tmp_path)
    settings = config_of(tmp_path)
    made = trained(settings)
    files = {name: made.file(name).read_bytes() for name in made.manifest.entries}
    folder = write_old(Path(settings.store), "train/trims-s0", files, full_config=as_01(settings))
    assert trims("clean", settings.store, "--artifact", f"train/{made.fingerprint}")[0] == 0
    student = settings.student.model
    asked = ("--prompt", "How many?", "--json", "--gen-length", "16", "--block-length", "8")

    def tokens(*words: str | Path) -> list[int]:
        code, said = trims("generate", *words, *asked)
        assert code == 0, said
        found: list[int] = json.loads(said)["token_ids"]
        return found

    wanted = tokens(student, "--adapter", folder / "adapter")
    assert wanted != tokens(student)
    for name, merge in (("adapter", ()), ("merged", ("--merge",))):
        code, said = trims("export", path, tmp_path / name, *merge)
        assert code == 0, said
    assert tokens(student, "--adapter", tmp_path / "adapter") == wanted
    assert tokens(tmp_path / "merged") == wanted
