"""A run takes each hub input at one commit: the one its keys were made from, or none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_checkpoint import write_student
from fakes.hub import FakeHub
from fakes.teacher import write_tokenizer
from fakes.tiny_teacher import write_tiny_qwen3

from trims_core.benchmarks import get_benchmark
from trims_core.config import CorpusConfig, ScoresConfig, TrainConfig, TrimsConfig
from trims_core.corpus.stage import corpus_rows
from trims_core.decoding_sections import RolloutsConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.graph import build_graph, node_named, select
from trims_core.hub import Kind
from trims_core.pinning import READERS, pinned
from trims_core.plan import explain, plan
from trims_core.raw_rows import Problems
from trims_core.schema import CORPUS, read_table
from trims_core.settings import parse_config
from trims_core.stage import Result, load_spec, main, run_node
from trims_core.store import Store
from trims_core.sweep_sections import TaskConfig
from trims_core.variants import TabomVariant, TrimsVariant

STUDENT, TEACHER, DATA = "models/org/student", "models/org/teacher", "datasets/org/data"
CONTEXTS = (250, 240)
"""How commits are told apart once they are loaded."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {STUDENT: write_student(root / "student"), TEACHER: write_tiny_qwen3(root / "teacher")}


def upload(hub: FakeHub, repo: str, folder: Path, context: int) -> str:
    """A commit of a checkpoint with this context in config.json and the tokenizer's settings."""
    changed = {}
    for name, keys in {
        "config.json": ("max_sequence_length", "max_position_embeddings"),
        "tokenizer_config.json": ("model_max_length",),
    }.items():
        about = json.loads((folder / name).read_text())
        changed[name] = json.dumps({**about, **dict.fromkeys(keys, context)})
    return hub.upload(repo, folder, **changed)


def lines(context: int) -> str:
    """Rows that serve as conversations and as problems."""
    row = {"id": f"r{context}", "question": f"What is {context}?", "answer": f"The answer is {context}."}
    return json.dumps(row) + "\n"


def rows_of(context: int) -> dict[str, str]:
    return {"train.jsonl": lines(context), "test.jsonl": lines(context)}


def _student(revision: str) -> int:
    from trims_core.students import load_student

    return load_student("org/student", revision=revision).family.context_length


def _student_tokenizer(revision: str) -> int:
    from trims_core.students import load_student_tokenizer

    return load_student_tokenizer("org/student", revision)[0].model_max_length


def _tokenizer(revision: str) -> int:
    from trims_core.rendering import load_tokenizer

    return load_tokenizer("org/teacher", revision).model_max_length


def _limits(revision: str) -> int | None:
    from trims_core.teacher.limits import read_limits

    return read_limits("org/teacher", revision).context


def _teacher(revision: str) -> int:
    from trims_core.teacher.transformers_teacher import TransformersTeacher

    teacher = TransformersTeacher(ScoresConfig(model="org/teacher", revision=revision))
    teacher.start(8, lambda _note: None)
    context: int = teacher._model.config.max_position_embeddings
    teacher.close()
    return context


def _assistant(revision: str) -> int:
    from trims_core.generation import Assistant

    return Assistant.load("org/student", revision=revision).student.family.context_length


def _corpus(revision: str) -> int:
    (row,) = corpus_rows(CorpusConfig(hub="org/data", revision=revision), Problems("corpus"))
    return int(row.values["id"][1:])


def _benchmark(revision: str) -> int:
    task = TaskConfig(benchmark="demo", hub="org/data", revision=revision)
    return int(get_benchmark("demo").load(task)[0].id[1:])


LOADERS: dict[Callable[[str], int | None], str] = {
    _student: STUDENT,
    _student_tokenizer: STUDENT,
    _assistant: STUDENT,
    _tokenizer: TEACHER,
    _limits: TEACHER,
    _teacher: TEACHER,
    _corpus: DATA,
    _benchmark: DATA,
}


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_the_commit_asked_for_is_loaded_or_none(
    hub: FakeHub, checkpoints: dict[str, Path], load: Callable[[str], int | None]
) -> None:
    repo = LOADERS[load]
    commits = []
    for context in CONTEXTS:
        if repo == DATA:
            commits.append(hub.commit(repo, rows_of(context)))
        else:
            commits.append(upload(hub, repo, checkpoints[repo], context))
    third = hub.commit(repo, {"other.txt": "another commit, which main is now"})
    assert [load(commit) for commit in commits] == list(CONTEXTS)
    hub.asked.clear()
    hub.go_away()
    assert [load(commit) for commit in commits] == list(CONTEXTS)
    hub.offline()
    assert [load(commit) for commit in commits] == list(CONTEXTS)
    assert hub.asked == []
    for unknown in (third, "main"):
        with pytest.raises(ConfigError, match="hub"):
            load(unknown)


def raw_config(root: Path) -> dict[str, Any]:
    """Every input on the hub."""
    return {
        "name": "hub",
        "store": str(root / "store"),
        "corpus": {"hub": "org/data", "prompt_column": "question", "completion_column": "answer"},
        "scores": {"teacher": "fakes.teacher:FakeTeacher", "model": "org/teacher"},
        "buckets": {"k": 1},
        "student": {"model": "org/student", "device": "cpu"},
        "sweep": {
            "tasks": {"demo": {"benchmark": "demo", "hub": "org/data"}},
            "thresholds": [0.5],
            "gen_length": 8,
            "block_length": 8,
        },
    }


NODES = ("corpus", "scores", "aligned", "buckets", "sweep/untuned", "grades/untuned")


def run(config: TrimsConfig, names: Sequence[str] = NODES) -> dict[str, Result]:
    """As the flow runs nodes: pinned at the beginning, a store object for each node."""
    graph = build_graph(config)
    config = pinned(config, Store(config.store).digests, graph)
    done: dict[str, Result] = {}
    for name in names:
        node = node_named(graph, name)
        parents = {role: done[parent].artifact for role, parent in node.parents.items() if parent in done}
        done[name] = run_node(Store(config.store), config, node, parents)
    return done


def how(done: dict[str, Result]) -> list[str]:
    return [result.how for result in done.values()]


@pytest.fixture
def config(hub: FakeHub, checkpoints: dict[str, Path], tmp_path: Path) -> TrimsConfig:
    """Settings whose repositories have a first commit each."""
    upload(hub, STUDENT, checkpoints[STUDENT], CONTEXTS[0])
    hub.upload(TEACHER, write_tokenizer(tmp_path / "plain teacher"))
    hub.commit(DATA, rows_of(CONTEXTS[0]))
    return parse_config(raw_config(tmp_path))


@pytest.fixture
def moving(hub: FakeHub, checkpoints: dict[str, Path], config: TrimsConfig) -> Iterator[None]:
    """Somebody pushes to every repository whenever a revision was resolved."""
    numbers = iter(range(1000, 2000))

    def push(_repo: str) -> None:
        number = next(numbers)
        upload(hub, STUDENT, checkpoints[STUDENT], number)
        hub.commit(TEACHER, {"added.json": str(number)})
        hub.commit(DATA, rows_of(number))

    hub.after_info = push
    yield
    assert next(numbers) > 1000, "nobody asked"


def commits_read(hub: FakeHub) -> dict[str, str]:
    """Repository → the one commit of which files were listed or fetched."""
    read: dict[str, str] = {}
    for line in hub.asked:
        repo, at, commit = line.split()[1].partition("@")
        if at:
            assert read.setdefault(repo, commit) == commit, f"two commits of {repo}"
    return read


@pytest.mark.usefixtures("moving")
def test_a_run_takes_one_commit_of_each_input_while_main_moves_and_its_keys_tell_what_was_read(
    hub: FakeHub, config: TrimsConfig, tmp_path: Path
) -> None:
    done = run(config)
    read = commits_read(hub)
    data, teacher, student = (
        hub.copy(repo, read[repo], tmp_path / "copies" / repo) for repo in (DATA, TEACHER, STUDENT)
    )
    digests = Digests(None)
    inputs = {name: done[name].artifact.manifest.inputs for name in NODES}
    assert inputs["corpus"]["data"] == digests.dataset(str(data / "train.jsonl"))
    assert inputs["scores"]["checkpoint"] == digests.checkpoint(teacher)
    assert inputs["scores"]["tokenizer"] == digests.tokenizer(teacher)
    assert inputs["aligned"]["student_tokenizer"] == digests.tokenizer(student)
    assert inputs["sweep/untuned"]["student"] == digests.checkpoint(student)
    for name in ("sweep/untuned", "grades/untuned"):
        assert inputs[name]["benchmark.demo"] == digests.dataset(str(data / "test.jsonl"))
    recorded = done["sweep/untuned"].artifact.manifest.full_config
    assert recorded["student"]["revision"] == read[STUDENT]


@pytest.mark.usefixtures("moving")
def test_a_node_of_its_own_loads_what_its_key_says(hub: FakeHub, config: TrimsConfig) -> None:
    corpus = run_node(Store(config.store), config, build_graph(config)[0], {}).artifact
    commit = corpus.manifest.full_config["corpus"]["revision"]
    assert commits_read(hub) == {DATA: commit}
    (ids,) = [read_table(path, CORPUS)["id"].to_pylist() for path in corpus.files("corpus-")]
    assert ids == [f"r{CONTEXTS[0]}"]


def test_a_stage_command_takes_one_commit_for_parents_and_node(
    hub: FakeHub, config: TrimsConfig, tmp_path: Path
) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(json.dumps(raw_config(tmp_path)))
    hub.after_info = lambda _repo: hub.commit(DATA, {"README.md": str(len(hub.asked))})
    assert main(["corpus", "--config", str(path)]) == 0
    assert main(["scores", "--config", str(path)]) == 0
    hub.after_info = lambda _repo: hub.commit(DATA, rows_of(len(hub.asked)))
    assert main(["scores", "--config", str(path)]) == 0


def test_a_commit_that_changes_only_a_readme_makes_nothing_again(hub: FakeHub, config: TrimsConfig) -> None:
    run(config)
    for repo in (STUDENT, TEACHER, DATA):
        hub.commit(repo, {"README.md": "better words"})
    assert how(run(config)) == ["cached"] * len(NODES)
    hub.commit(STUDENT, {"chat_template.jinja": "{{ other }}"})
    assert how(run(config, NODES[:3])) == ["cached", "cached", "made"]


def test_a_cached_run_needs_no_hub_and_with_the_files_in_the_cache_neither_does_a_new_one(
    hub: FakeHub, config: TrimsConfig, tmp_path: Path
) -> None:
    run(config)
    hub.asked.clear()
    hub.go_away()
    assert how(run(config)) == ["cached"] * len(NODES)
    more = raw_config(tmp_path)
    more["sweep"]["thresholds"] = [0.5, 0.25]
    assert how(run(parse_config(more))) == [*["cached"] * 4, "made", "made"]
    other = parse_config({**more, "store": str(tmp_path / "other store")})
    assert how(run(other, NODES[:4])) == ["made"] * 4
    hub.offline()
    assert how(run(config)) == ["cached"] * len(NODES)
    assert hub.asked == []


def _planned(config: TrimsConfig) -> str:
    rows = {row.node.id: row for row in plan(Store(config.store), config)}
    return str(rows["sweep/untuned"].units)


def _explained(config: TrimsConfig) -> str:
    return str(explain(Store(config.store), config, "sweep/untuned").units)


def test_a_plan_and_an_explanation_look_for_units_at_the_commit_of_their_key(
    hub: FakeHub, config: TrimsConfig, tmp_path: Path
) -> None:
    run(config)
    raw = raw_config(tmp_path)
    raw["sweep"]["thresholds"] = [0.5, 0.25]
    hub.after_info = lambda repo: hub.commit(DATA, rows_of(len(hub.asked))) if repo == DATA else None
    for tell in (_planned, _explained):
        hub.commit(DATA, rows_of(CONTEXTS[0]))
        assert tell(parse_config(raw)) == "2 of 3 units are there"


def test_data_of_another_name_have_another_key_as_rows_tell_where_they_come_from(
    hub: FakeHub, config: TrimsConfig
) -> None:
    hub.commit("datasets/org/again", rows_of(CONTEXTS[0]))
    again = config.model_copy(update={"corpus": config.corpus.model_copy(update={"hub": "org/again"})})
    found = [run(one, NODES[:1])["corpus"].artifact for one in (config, again)]
    assert found[0].manifest.inputs["data"] == found[1].manifest.inputs["data"]
    assert found[0].fingerprint != found[1].fingerprint
    assert run(again, NODES[:2])["scores"].how == "made"
    assert [len(Store(config.store).folders(stage)) for stage in ("corpus", "scores")] == [2, 1]


class Spy(Digests):
    """Notes the revisions that digests are asked for."""

    def __init__(self) -> None:
        super().__init__(None)
        self.revisions: list[str | None] = []

    def commit(self, kind: Kind, name: str, revision: str | None = None) -> str:
        self.revisions.append(revision)
        return super().commit(kind, name, revision)


def test_every_stage_is_given_the_commits_it_makes_its_key_from(config: TrimsConfig) -> None:
    asking = []
    train = TrainConfig(variants={"trims": TrimsVariant(), "own": TabomVariant()})
    config = config.model_copy(update={"train": train, "rollouts": RolloutsConfig(grader="demo")})
    for node in build_graph(config):
        spec, spy = load_spec(node.stage), Spy()
        spec.inputs(spec.settings(pinned(config, Digests(None), [node]), node), spy)
        assert all(re.fullmatch("[0-9a-f]{40}", revision or "") for revision in spy.revisions), node
        asking += [node.stage] if spy.revisions else []
    assert set(asking) == set().union(*READERS.values())


def test_only_what_is_read_is_asked_for(hub: FakeHub, config: TrimsConfig) -> None:
    graph = build_graph(config)
    hub.asked.clear()
    for_scores = pinned(config, Digests(None), select(graph, "scores"))
    assert hub.asked == [f"info {DATA}", f"info {TEACHER}"]
    assert (for_scores.student, for_scores.sweep) == (config.student, config.sweep)
    everything = pinned(config, Digests(None), graph)
    hub.asked.clear()
    assert pinned(everything, Digests(None), graph) == everything
    assert hub.asked == []


def test_a_benchmark_of_its_own_source_is_pinned_too(hub: FakeHub, config: TrimsConfig) -> None:
    row = json.dumps({"question": "2?", "answer": "#### 2"}) + "\n"
    card = "---\nconfigs: [{config_name: main, data_files: [{split: test, path: test.jsonl}]}]\n---\n"
    commit = hub.commit("datasets/openai/gsm8k", {"README.md": card, "test.jsonl": row})
    tasks = {"gsm8k": TaskConfig(benchmark="gsm8k")}
    config = config.model_copy(update={"sweep": config.sweep.model_copy(update={"tasks": tasks})})
    task = pinned(config, Digests(None), build_graph(config)).sweep.tasks["gsm8k"]
    assert task.revision == commit
    hub.commit("datasets/openai/gsm8k", {"test.jsonl": row.replace("2", "3")})
    assert [problem.gold for problem in get_benchmark("gsm8k").load(task)] == ["2"]


def test_a_folder_of_a_models_name_is_the_model_a_data_set_is_always_on_the_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit(DATA, rows_of(1))
    for name in ("org/data", "org/teacher", "org/student"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = parse_config(raw_config(tmp_path))
    after = pinned(config, Digests(None), build_graph(config))
    assert (after.scores, after.student) == (config.scores, config.student)
    assert after.corpus.revision == after.sweep.tasks["demo"].revision == commit


def test_local_inputs_stay_as_they_are(hub: FakeHub, tmp_path: Path) -> None:
    raw = raw_config(tmp_path)
    raw["corpus"]["path"] = raw["sweep"]["tasks"]["demo"]["path"] = "a.jsonl"
    raw["scores"]["model"] = raw["student"]["model"] = str(tmp_path)
    config = parse_config(raw)
    assert pinned(config, Digests(None), build_graph(config)) == config
    assert hub.asked == []
