"""The `trims` command without Prefect: cached runs, plans, listings, errors and exit codes. Fake stages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes import stages
from typer.testing import CliRunner

from flows.cli import app
from trims_core import __version__
from trims_core.graph import build_graph
from trims_core.settings import load_config
from trims_core.stage import STAGE_MODULES, run_node
from trims_core.store import Artifact, Store

HEAVY = ("prefect", "torch", "transformers", "vllm", "matplotlib")


def make_all(config: Path, until: str | None = None) -> Store:
    """Everything (up to a stage) made without Prefect; gives back the store."""
    settings = load_config(config)
    store = Store(settings.store)
    done: dict[str, Artifact] = {}
    for node in build_graph(settings):
        parents = {role: done[parent] for role, parent in node.parents.items()}
        done[node.id] = run_node(store, settings, node, parents).artifact
        if node.id == until:
            break
    return store


def trims(*words: str | Path) -> tuple[int, str]:
    """Exit code and everything printed, on lines that do not wrap."""
    found = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
    return found.exit_code, found.output


def test_a_fully_cached_run_says_so_and_names_the_report(config: Path) -> None:
    make_all(config)
    code, said = trims("run", config)
    assert code == 0
    assert said.count(" cached ") == 11
    page = config.parent / "store" / "latest" / "tiny" / "index.html"
    assert f"report: {page}" in said
    assert page.is_file()


def test_a_cached_run_until_a_stage_needs_no_report(config: Path) -> None:
    make_all(config)
    code, said = trims("run", config, "--until", "buckets")
    assert (code, said.count(" cached ")) == (0, 4)


def test_a_fully_cached_run_imports_neither_prefect_nor_torch(config: Path, project_root: Path) -> None:
    make_all(config)
    program = (
        "import sys, types\n"
        "from fakes import flow_stages\n"
        "import pytest\n"
        "flow_stages.install(pytest.MonkeyPatch())\n"
        "from flows.cli import app\n"
        f"app(['run', {str(config)!r}], standalone_mode=False)\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    env = {"PYTHONPATH": f"{project_root}:{project_root / 'tests'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


def test_the_command_and_the_real_stages_keys_are_light(project_root: Path) -> None:
    program = f"import sys, flows.cli, trims_core.plan, {', '.join(STAGE_MODULES.values())}\n"
    program += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project_root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_plan_tells_what_would_run_and_why(config: Path) -> None:
    make_all(config)
    code, said = trims("plan", config, "--set", "buckets.k=4")
    assert code == 0
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert " hit " in lines["scores"]
    assert " miss " in lines["buckets"]
    assert "buckets.k changed (8 → 4)" in lines["buckets"]
    assert " unknown " in lines["report"]


def test_explain_names_the_field_that_changed(config: Path) -> None:
    make_all(config)
    code, said = trims("explain", config, "buckets", "--set", "buckets.k=4")
    assert code == 0
    assert "config buckets.k: 8 → 4" in said


def test_verify_finds_a_damaged_file_and_ends_with_its_exit_code(config: Path) -> None:
    store = make_all(config)
    assert trims("verify", store.root, "--deep")[0] == 0
    (artifact,) = store.artifacts("scores")
    shard = artifact.files("scores-")[0]
    shard.write_bytes(shard.read_bytes()[:-20])
    code, said = trims("verify", store.root)
    assert code == 66
    assert shard.name in said
    assert "1 of 11 artifacts are damaged" in said
    code, said = trims("verify", artifact.path)
    assert (code, "1 of 1" in said) == (66, True)


def test_explain_says_which_units_are_missing_and_why(config: Path) -> None:
    make_all(config)
    source = config.parent / "source.jsonl"
    source.write_text(source.read_text() + '{"id": "one-more"}\n')
    make_all(config, until="corpus")
    code, said = trims("explain", config, "scores")
    assert code == 0
    assert f"{stages.N_SHARDS} of {stages.N_SHARDS + 1} units are there" in said
    assert f"1 missing (scores-{stages.N_SHARDS:05d}): no such unit before" in said


def test_du_shows_the_bytes_of_each_stage(config: Path) -> None:
    store = make_all(config)
    code, said = trims("du", store.root)
    assert code == 0
    sizes = store.sizes()
    assert {"stage", "all", *sizes} <= {line.split()[0] for line in said.splitlines() if line.strip()}
    assert all(sizes[stage] > 0 for stage in ("corpus", "scores", "report"))


def test_ls_lists_artifacts_of_a_stage(config: Path) -> None:
    store = make_all(config)
    code, said = trims("ls", store.root, "--stage", "sweep")
    assert code == 0
    assert "sweep/untuned" in said
    assert "sweep/trims-s0" in said
    assert "corpus" not in said


def test_clean_removes_a_committed_artifact_only_by_name(config: Path) -> None:
    store = make_all(config)
    assert "removed 0 folders" in trims("clean", store.root, "--older-than", "0s")[1]
    (report,) = store.artifacts("report")
    name = f"report/{report.fingerprint[:12]}"
    assert "would remove 1" in trims("clean", store.root, "--artifact", name, "--dry-run")[1]
    assert report.path.is_dir()
    assert trims("clean", store.root, "--artifact", name)[0] == 0
    assert store.artifacts("report") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "nowhere.yaml"), 2, "no such file"),
        (("plan", "CONFIG", "--set", "buckets.kk=3"), 2, "did you mean"),
        (("plan", "CONFIG", "--until", "bukets"), 2, "did you mean 'buckets'"),
        (("verify", "nowhere"), 66, "no such store"),
        (("ls", "nowhere"), 66, "no such store"),
        (("clean", ".", "--older-than", "soon"), 2, "expected a number and s, m, h or d"),
        (("export", "CONFIG", "out", "--model", "trims-s9"), 2, "expected one of trims-s0"),
        (("export", "CONFIG", "out"), 66, "trims run"),
        (("serve", "--port", "0"), 2, "no prefect.yaml here"),
    ],
)
def test_mistakes_end_with_one_message_and_their_exit_code(
    config: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(config.parent)
    found, output = trims(*(str(config) if word == "CONFIG" else word for word in words))
    assert (found, said in output) == (code, True), output
    assert "Traceback" not in output


def test_version_and_help_are_there() -> None:
    assert trims("--version") == (0, f"trims {__version__}\n")
    for words in (
        (),
        ("run",),
        ("plan",),
        ("explain",),
        ("verify",),
        ("ls",),
        ("clean",),
        ("export",),
        ("serve",),
    ):
        code, said = trims(*words, "--help")
        assert (code, "Usage: " in said) == (0, True)


def test_export_copies_the_adapter_as_it_is(config: Path, tmp_path: Path) -> None:
    store = make_all(config)
    code, said = trims("export", config, tmp_path / "out")
    assert code == 0, said
    (train,) = store.artifacts("train")
    for path in train.files("adapter/"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    code, said = trims("export", config, tmp_path / "out")
    assert (code, "exists already" in said) == (2, True)
