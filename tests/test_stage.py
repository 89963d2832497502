"""Running one node: cached, made, gated, interrupted; and the stage command."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import stages
from fakes.stages import SPECS, making, tiny_config

from trims_core.config import STAGES, TrimsConfig
from trims_core.errors import (
    ConfigError,
    IncompleteArtifactError,
    InterruptedRunError,
    MissingArtifactError,
    RejectBudgetError,
    StoreError,
)
from trims_core.graph import build_graph, node_named
from trims_core.stage import (
    STAGE_MODULES,
    Make,
    Outcome,
    Result,
    StageSpec,
    Unit,
    Work,
    help_node,
    interruptible,
    main,
    node_key,
    open_parents,
    run_node,
    unit_key,
)
from trims_core.store import Attempt, Made, Store


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    stages.calls.clear()


def now() -> str:
    """The moment a refresh begins."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def make(
    config: TrimsConfig,
    node_id: str,
    refresh: bool = False,
    spec: StageSpec | None = None,
    since: str | None = None,
) -> Result:
    """The artifact of a node whose parents exist."""
    specs = {**SPECS, spec.name: spec} if spec else SPECS
    store, node = Store(config.store), node_named(build_graph(config), node_id)
    since = now() if refresh else since
    return run_node(store, config, node, open_parents(store, config, node, specs), since=since, specs=specs)


def writing(stage: str, text: str) -> StageSpec:
    """A stage of one unit that holds this text."""

    def maker(work: Work, *_: object) -> AbstractContextManager[Make]:
        def make(_unit: Unit, attempt: Attempt) -> Made:
            (attempt.path / "result.json").write_text(text)
            return Made({"result.json": None})

        return making(make, work)

    return replace(SPECS[stage], maker=maker)


def make_all(config: TrimsConfig) -> dict[str, str]:
    """How each node of the whole pipeline came about."""
    return {node.id: make(config, node.id).how for node in build_graph(config)}


def with_bad_rows(root: Path, n_bad: int, **scores: object) -> TrimsConfig:
    """A corpus in which the fake teacher rejects some rows."""
    config = tiny_config(root, scores=scores)
    names = [f"bad{i}" if i < n_bad else f"a{i}" for i in range(12)]
    (root / "source.jsonl").write_text("".join(f'{{"id": "{name}"}}\n' for name in names))
    return config


def test_everything_is_made_once_and_then_cached(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    assert set(make_all(config).values()) == {"made"}
    stages.calls.clear()
    assert set(make_all(config).values()) == {"cached"}
    assert stages.calls == []


def test_changing_k_redoes_buckets_and_what_hangs_on_them_and_nothing_else(tmp_path: Path) -> None:
    make_all(tiny_config(tmp_path))
    how = make_all(tiny_config(tmp_path, buckets={"k": 4}))
    cached = [name for name, came in how.items() if came == "cached"]
    assert cached == ["corpus", "scores", "aligned", "sweep/untuned", "grades/untuned"]


def test_what_a_refresh_made_again_already_is_a_hit(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    for name in ("corpus", "scores"):
        make(config, name)
    since = now()
    assert make(config, "scores", since=since).how == "made"
    stages.calls.clear()
    assert make(config, "scores", since=since).how == "cached"
    assert make(config, "scores").how == "cached"
    assert stages.calls == []
    assert make(config, "scores", since=now()).how == "made"
    assert len(stages.calls) == stages.N_SHARDS


def test_a_refresh_that_failed_makes_only_the_units_it_did_not_make(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    for name in ("corpus", "scores"):
        make(config, name)

    @contextmanager
    def breaking(*about: object) -> Iterator[Make]:
        with SPECS["scores"].maker(*about) as plain:

            def make_two(unit: Unit, attempt: Attempt) -> Made:
                if unit.name == "scores-00002":
                    raise KeyError("broken")
                return plain(unit, attempt)

            yield make_two

    since = now()
    with pytest.raises(KeyError):
        make(config, "scores", since=since, spec=replace(SPECS["scores"], maker=breaking))
    stages.calls.clear()
    assert make(config, "scores", since=since).how == "made"
    assert stages.calls == ["scores:scores-00002"]


def test_a_refresh_is_the_remedy_for_damage(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    corpus = make(config, "corpus").artifact
    corpus.file("corpus-00001/corpus.parquet").unlink()
    with pytest.raises(IncompleteArtifactError, match="--refresh corpus"):
        make(config, "corpus")
    assert make(config, "corpus", refresh=True).how == "made"
    assert make(config, "corpus").how == "cached"


def test_children_of_a_refresh_with_equal_bytes_stay_fresh(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    assert make(config, "scores", refresh=True).how == "made"
    assert set(make_all(config).values()) == {"cached"}


def test_children_of_a_refresh_with_other_bytes_are_made_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)

    make(config, "buckets", refresh=True, spec=writing("buckets", "other"))
    how = make_all(config)
    assert {name for name, came in how.items() if came == "made"} == {
        "train/trims-s0",
        "sweep/trims-s0",
        "grades/trims-s0",
        "analysis",
        "report",
    }


def test_a_parent_that_is_replaced_during_the_work_stops_the_commit(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    for name in ("corpus", "scores", "aligned"):
        make(config, name)

    @contextmanager
    def slow(*about: object) -> Iterator[Make]:
        with SPECS["buckets"].maker(*about) as plain:
            make(config, "aligned", refresh=True, spec=writing("aligned", "other"))
            yield plain

    with pytest.raises(MissingArtifactError, match="replaced by other content meanwhile"):
        make(config, "buckets", spec=replace(SPECS["buckets"], maker=slow))
    assert Store(config.store).folders("buckets") == []


def test_a_parent_of_which_one_unit_was_replaced_stops_the_commit(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    for name in ("corpus", "scores", "aligned"):
        make(config, name)

    def dying(*_: object) -> Outcome:
        raise KeyError("after the unit, before the artifact")

    @contextmanager
    def slow(*about: object) -> Iterator[Make]:
        with SPECS["buckets"].maker(*about) as plain:
            with pytest.raises(KeyError):
                make(
                    config,
                    "aligned",
                    refresh=True,
                    spec=replace(writing("aligned", "other"), finish=dying),
                )
            yield plain

    with pytest.raises(MissingArtifactError, match="replaced by other content meanwhile"):
        make(config, "buckets", spec=replace(SPECS["buckets"], maker=slow))
    assert Store(config.store).folders("buckets") == []


def test_a_raised_stage_version_makes_the_stage_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    stages.calls.clear()
    assert make(config, "scores", spec=replace(SPECS["scores"], version=2)).how == "made"
    assert len(stages.calls) == stages.N_SHARDS


def test_the_manifest_says_what_and_how(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    manifest = make(config, "scores").artifact.manifest
    corpus = Store(config.store).artifacts("corpus")[0]
    assert manifest.counts == {"n_in": 12, "n_out": 12, "n_rejected": 0}
    assert manifest.info == {"teacher": "fake", "rejected": {}}
    assert manifest.config["dtype"] == "float32"
    assert manifest.inputs == {"teacher": "./none"}
    assert not {"batch_size", "model"} & set(manifest.config)
    assert [unit.name for unit in manifest.units] == [f"scores-0000{i}" for i in range(3)]
    assert manifest.full_config["scores"]["batch_size"] == config.scores.batch_size
    assert manifest.parents == {"corpus": corpus.parent_ref()}
    assert {"python", "numpy", "pyarrow"} <= set(manifest.versions)
    assert manifest.created_at.endswith("+00:00")


def test_rejects_over_the_budget_are_refused_with_their_ids_and_a_remedy(tmp_path: Path) -> None:
    config = with_bad_rows(tmp_path, 2)
    make(config, "corpus")
    with pytest.raises(RejectBudgetError, match=r"2 of 12 rows.*bad0, bad1.*max_rejected_fraction=0\.167"):
        make(config, "scores")
    assert Store(config.store).folders("scores") == []


def test_raising_the_budget_continues_without_scoring_again(tmp_path: Path) -> None:
    config = with_bad_rows(tmp_path, 2)
    make(config, "corpus")
    with pytest.raises(RejectBudgetError):
        make(config, "scores")
    stages.calls.clear()

    def idle(*_: object) -> AbstractContextManager[Make]:
        pytest.fail("every shard is there: nothing is loaded")

    spec = replace(SPECS["scores"], maker=idle)
    generous = with_bad_rows(tmp_path, 2, max_rejected_fraction=0.167)
    assert make(generous, "scores", spec=spec).how == "made"
    assert stages.calls == []


def test_a_unit_that_is_not_settled_is_made_again_and_the_others_are_not(tmp_path: Path) -> None:
    config = with_bad_rows(tmp_path, 2)
    make(config, "corpus")
    with pytest.raises(RejectBudgetError):
        make(config, "scores")
    stages.calls.clear()
    spec = replace(SPECS["scores"], settled=lambda record: not record.notes["rejects"])
    with pytest.raises(RejectBudgetError):
        make(config, "scores", spec=spec)
    assert stages.calls == ["scores:scores-00000"]


def test_lowering_the_budget_refuses_the_cached_artifact(tmp_path: Path) -> None:
    generous = with_bad_rows(tmp_path, 12, max_rejected_fraction=1.0)
    for name in ("corpus", "scores"):
        make(generous, name)
    strict = with_bad_rows(tmp_path, 12, max_rejected_fraction=0.5)
    with pytest.raises(RejectBudgetError, match=r"12 bad \(ids bad0, .*bad11\)"):
        make(strict, "scores")
    with pytest.raises(RejectBudgetError):
        make(strict, "aligned")
    assert make(generous, "scores").how == "cached"


def test_ctrl_c_becomes_a_named_error_and_keeps_finished_units(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")

    def interrupted(*_: object) -> Outcome:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the signal was not noticed")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError, match="SIGINT"):
        make(config, "scores", spec=replace(SPECS["scores"], finish=interrupted))
    assert signal.getsignal(signal.SIGINT) is before
    stages.calls.clear()
    assert make(config, "scores").how == "made"
    assert stages.calls == []


def test_a_second_signal_does_not_break_the_clean_up() -> None:
    cleaned = []
    with pytest.raises(InterruptedRunError), interruptible("work"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append("done")
    assert cleaned == ["done"]


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with interruptible("work"):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_missing_parent_names_the_command_that_makes_it(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    with pytest.raises(MissingArtifactError, match="trims run CONFIG --until scores"):
        make(config, "aligned")


def test_a_failed_stage_leaves_no_artifact_and_its_error_unchanged(tmp_path: Path) -> None:
    def broken(*_: object) -> Outcome:
        raise KeyError("mine")

    config = tiny_config(tmp_path)
    with pytest.raises(KeyError, match="mine"):
        make(config, "corpus", spec=replace(SPECS["corpus"], finish=broken))
    assert Store(config.store).folders() == []


def test_a_key_counts_settings_parents_and_inputs(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, scores={"model": "./m", "batch_size": 3})
    corpus = make(config, "corpus").artifact
    store, node = Store(config.store), node_named(build_graph(config), "scores")
    key = node_key(store, SPECS["scores"], config, node, {"corpus": corpus})
    assert key.config == config.scores.result_fields()
    assert "batch_size" not in key.config
    assert key.parents == {"corpus": corpus.content_digest}
    assert key.inputs == {"teacher": "./m"}
    assert len(key.fingerprint) == 64


def append_rows(root: Path, n_rows: int) -> None:
    """More rows at the end of the input."""
    with (root / "source.jsonl").open("a") as file:
        file.writelines(json.dumps({"id": f"more{i}"}) + "\n" for i in range(n_rows))


def test_appended_rows_make_new_units_only(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    stages.calls.clear()
    append_rows(tmp_path, stages.ROWS)
    scores = [make(config, name) for name in ("corpus", "scores")][1].artifact
    assert stages.calls == ["corpus:corpus-00003", "scores:scores-00003"]
    assert scores.manifest.counts["n_in"] == 16
    assert [unit.name for unit in scores.units][-1] == "scores-00003"


def in_order(reads: list[str]) -> StageSpec:
    """A stage of two units that are listed the wrong way round: the second reads the first."""

    def units(work: Work, _facts: object) -> list[Unit]:
        return [Unit("second", {}, {"of": "b"}, after=["first"]), Unit("first", {}, {"of": "a"})]

    def maker(work: Work, *_: object) -> AbstractContextManager[Make]:
        def make(unit: Unit, attempt: Attempt) -> Made:
            before = [record.file("text").read_text() for record in work.made.values()]
            reads.append(f"{unit.name} after {before}")
            (attempt.path / "text").write_text(unit.name)
            return Made({"text": None})

        return making(make, work)

    finish = SPECS["aligned"].finish
    return replace(SPECS["corpus"], begin=None, units=units, maker=maker, finish=finish)


def test_a_unit_that_comes_after_another_is_made_when_that_is_there_and_sees_it(tmp_path: Path) -> None:
    config, reads = tiny_config(tmp_path), list[str]()
    artifact = make(config, "corpus", spec=in_order(reads)).artifact
    assert reads == ["first after []", "second after ['first']"]
    assert [unit.name for unit in artifact.units] == ["second", "first"]


def test_a_helper_starts_no_unit_whose_forerunner_another_process_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, reads = tiny_config(tmp_path), list[str]()
    store, spec = Store(config.store), in_order(reads)
    taken = unit_key(spec, Unit("first", {}, {"of": "a"}))
    monkeypatch.setattr(store.units, "is_taken", lambda key: key == taken)
    node = node_named(build_graph(config), "corpus")
    help_node(store, config, node, {}, share=1, specs={**SPECS, "corpus": spec})
    assert reads == []


def test_facts_come_before_the_units_and_reach_every_part(tmp_path: Path) -> None:
    seen: list[tuple[str, object]] = []

    def spied(part: str, really: Callable[..., object]) -> Callable[..., object]:
        def spy(work: Work, *about: object) -> object:
            got = really(work, *about)
            seen.append((part, got if part == "begin" else about[0]))
            return got

        return spy

    parts = ("begin", "units", "maker", "finish")
    corpus = SPECS["corpus"]
    spec = replace(corpus, **{part: spied(part, getattr(corpus, part)) for part in parts})
    make(tiny_config(tmp_path), "corpus", spec=spec)
    assert [part for part, _ in seen] == list(parts)
    assert len({id(facts) for _, facts in seen}) == 1


def test_a_stage_gets_its_settings_and_nothing_else_of_the_config(tmp_path: Path) -> None:
    seen: list[Work] = []

    def begin(work: Work) -> object:
        seen.append(work)
        return SPECS["corpus"].begin(work)

    config = tiny_config(tmp_path)
    make(config, "corpus", spec=replace(SPECS["corpus"], begin=begin))
    (work,) = seen
    assert work.settings == config.corpus
    assert not any(isinstance(value, TrimsConfig) for value in vars(work).values())


def test_files_that_span_the_units_are_kept_and_what_is_not_listed_is_not(tmp_path: Path) -> None:
    def finish(work: Work, *_: object) -> Outcome:
        for name in ("all.json", "stray.json"):
            (work.folder / name).write_text("{}")
        return Outcome({}, files={"all.json": None})

    made = make(tiny_config(tmp_path), "corpus", spec=replace(SPECS["corpus"], finish=finish))
    assert made.artifact.file("all.json").parent == made.artifact.path
    assert not (made.artifact.path / "stray.json").exists()
    assert stages.calls == [f"corpus:corpus-0000{i}" for i in range(3)]


def test_every_stage_has_a_module() -> None:
    assert tuple(STAGE_MODULES) == STAGES


def test_the_command_ends_with_the_errors_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["corpus", "--config", str(tmp_path / "none.yaml")], specs=SPECS) == ConfigError.exit_code
    assert "no such file" in caplog.text


def test_the_command_makes_one_of_several_nodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    from fakes.stage_cli import write_config

    path = str(write_config(tmp_path))
    two = ["--config", path, "--set", "train.seeds=[0, 1]"]
    for name in ("corpus", "scores", "aligned", "buckets"):
        assert main([name, *two], specs=SPECS) == 0
    assert main(["train", *two], specs=SPECS) == ConfigError.exit_code
    assert "expected one of train/trims-s0, train/trims-s1" in caplog.text
    assert main(["train", *two, "--node", "train/trims-s1"], specs=SPECS) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("made train/trims-s1 ")


def test_a_damaged_parent_is_noticed_before_any_work(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    corpus = make(config, "corpus").artifact
    shard = corpus.files("corpus-")[0]
    shard.write_bytes(shard.read_bytes()[:-4])
    stages.calls.clear()
    store, node = Store(config.store), node_named(build_graph(config), "scores")
    with pytest.raises(StoreError):
        run_node(store, config, node, {"corpus": corpus}, specs=SPECS)
    assert stages.calls == []
